"""Training: the loop, the optimizer, the log, and the saved states to resume from."""
