"""What serving does: brings desired states into effect, answers, and says what it did."""
