"""What answers for a model and in which order, how versions have been doing, what is measured."""
