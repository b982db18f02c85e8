"""Networks: tensors in, tensors out.

Importing this package is how the project imports Paddle. Paddle 2.6's library exports zlib's symbols, and whatever
binds to them afterwards crashes at its first decompression (`zipfile`, `gzip`, PNG readers, numpy's lazy import of
`numpy.random`). A zlib that was called once before Paddle was loaded keeps its own symbols, so that happens here,
ahead of every `import paddle` of the project.
"""

import ctypes
import sys
import warnings
import zlib

zlib.decompress(zlib.compress(b"bind zlib's own symbols"))

# glibc gives each thread a heap of its own and keeps there what has been freed, which adds up to gigabytes with tensors
# of this size; all threads share one.
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
    M_ARENA_MAX = -8
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

import numpy.random  # noqa: E402, F401

# Only of use to those who build extensions, which nothing here does.
warnings.filterwarnings("ignore", message="No ccache found")
# True of every batch norm that is trained.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")

import paddle  # noqa: E402, F401
