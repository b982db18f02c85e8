"""From disk to batches."""
