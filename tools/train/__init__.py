"""Training: the loop, the optimizer, the log, checkpoints to resume from."""
