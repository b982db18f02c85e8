"""Data sets: read splits, generated pictures, statistics, COCO annotation files."""
