"""Convert checkpoints of other programs: a short script per source, shared readers and checks, tables of names."""

from model import startup as startup  # must run before any other import of Paddle
