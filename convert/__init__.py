"""Other programs' checkpoints to ours: one thin script a source, over one reader, one checker and tables of names."""

import model  # noqa: F401  (binds zlib ahead of Paddle, see there)
