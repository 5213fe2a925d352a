"""What serving remembers, all of it on its own disk."""
