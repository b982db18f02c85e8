"""Networks: tensors in, tensors out.

Importing this package is how the project imports Paddle. Paddle 2.6's library exports zlib's symbols, and whatever
binds to them afterwards crashes at its first decompression (`zipfile`, `gzip`, PNG readers, numpy's lazy import of
`numpy.random`). A zlib that was called once before Paddle was loaded keeps its own symbols, so that happens here,
ahead of every `import paddle` of the project.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import warnings
import zlib
from pathlib import Path


def matrix_instructions(cpuinfo: str) -> str | None:
    """What Intel's MKL is to be told of an AMD processor, given Linux's description of it; None for nothing.

    Paddle multiplies matrices with MKL, whose release there uses none of the wide instructions of other makers'
    processors by itself and then takes two to five times as long.
    """
    if "AuthenticAMD" not in cpuinfo:
        return None
    flags = set(cpuinfo.split())
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "7"  # MKL's number of AVX-512 as servers have it
    return "5" if {"avx2", "fma"} <= flags else None  # of AVX2


def threads_of_a_cpu() -> int:
    """OMP_NUM_THREADS, by default the cores this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(stated) if stated.isdecimal() and int(stated) else cores


zlib.decompress(zlib.compress(b"bind zlib's own symbols"))

# glibc gives each thread a heap of its own and keeps there what has been freed, which adds up to gigabytes with tensors
# of this size; all threads share one.
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
    M_ARENA_MAX = -8
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

# Decoding shares its work among threads of its own. Where each of numpy's products of matrices has threads too, these
# wait for one another: on a busy machine the same picture took ten times as long. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy.random  # noqa: E402, F401

CPUINFO = Path("/proc/cpuinfo")
if CPUINFO.exists() and (kind := matrix_instructions(CPUINFO.read_text())):
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", kind)  # MKL reads it when it multiplies for the first time

# Only of use to those who build extensions, which nothing here does.
warnings.filterwarnings("ignore", message="No ccache found")
# True of every batch norm that is trained.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")

CPU_THREADS = threads_of_a_cpu()

# A network that was exported is run, and what it says decoded, where there is no Paddle too.
if importlib.util.find_spec("paddle"):
    stated = os.environ.get("OMP_NUM_THREADS")
    import paddle

    # Paddle takes one thread where nothing is stated, and states that for the processes that this one will start.
    paddle.base.core.set_num_threads(CPU_THREADS)
    if stated is None:
        os.environ.pop("OMP_NUM_THREADS", None)
