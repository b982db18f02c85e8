"""Checkpoints of other programs to ours: one short script per source, a shared reader and checks, tables of names."""

from model import startup as startup  # must run before any other import of Paddle
