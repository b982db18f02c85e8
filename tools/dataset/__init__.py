"""Data sets: splits of a config, generated pictures, statistics, plots, COCO annotation files."""
