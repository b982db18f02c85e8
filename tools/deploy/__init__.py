"""Exported networks: their metadata, running them, raw .bin files."""
