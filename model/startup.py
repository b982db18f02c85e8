"""Set up zlib, memory, threads and MKL before numpy and Paddle are loaded: the project's only import side effects.

The packages `model`, `tools` and `convert` import this module first, and so does every program, so that it runs before
any other `import numpy` or `import paddle`.
"""

from __future__ import annotations

import signal
import threading

# Until the end of this module Ctrl-C ends the process without a traceback, because libraries take seconds to load.
_previous_handlers = {}
_previous_mask = None
if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
    _previous_handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_DFL),
        signal.SIGTERM: signal.getsignal(signal.SIGTERM),
    }

import contextlib
import ctypes
import importlib.util
import os
import sys
import warnings
import zlib
from pathlib import Path

LEAST_MEMORY = 1300 << 20  # bytes of address space; with less, libraries crash or wait for ever while they are loaded


def _refuse_small_memory() -> None:
    """End the program if the process is limited to too little memory for Paddle."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        print(
            f"{Path(sys.argv[0]).name}: error: not enough memory: the limit is {limit >> 20} MiB; raise it with "
            f"ulimit -v {LEAST_MEMORY >> 10} or more",
            file=sys.stderr,
        )
        sys.exit(2)


def matrix_instructions(cpuinfo: str) -> str | None:
    """Return the value of MKL_DEBUG_CPU_TYPE for this processor, given /proc/cpuinfo; None if MKL needs none.

    Paddle multiplies matrices with Intel's MKL. Its release uses no wide instructions of AMD processors unless told
    to, which takes two to five times as long.
    """
    if "AuthenticAMD" not in cpuinfo:
        return None
    flags = set(cpuinfo.split())
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "7"  # MKL's number for AVX-512 on servers
    return "5" if {"avx2", "fma"} <= flags else None  # its number for AVX2


MAX_THREADS = 4096  # more are a mistake


def threads_of_a_cpu() -> int:
    """Return OMP_NUM_THREADS, or the number of cores that this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(stated) if stated.isdecimal() and int(stated) else cores


# Paddle 2.6 exports zlib's symbols. Whatever binds to them later crashes at its first decompression: `zipfile`, `gzip`,
# PNG readers, numpy's lazy import of `numpy.random`. A zlib that was called before Paddle was loaded keeps its own.
zlib.decompress(zlib.compress(b"bind zlib's own symbols"))

# glibc gives each thread its own heap and keeps freed memory there. With tensors of this size that adds up to
# gigabytes, so all threads share one heap.
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
    M_ARENA_MAX = -8
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

# Decoding has its own threads. If numpy's matrix products use threads too, they wait for one another: on a busy machine
# the same picture took ten times as long. numpy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CPUINFO = Path("/proc/cpuinfo")
if CPUINFO.exists() and (kind := matrix_instructions(CPUINFO.read_text())):
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", kind)  # MKL reads it at its first multiplication

# Concerns only people who build extensions, which nothing here does.
warnings.filterwarnings("ignore", message="No ccache found")
# True of every batch norm that is trained.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")

if os.environ.get("OMP_NUM_THREADS", "").isdecimal() and int(os.environ["OMP_NUM_THREADS"]) > MAX_THREADS:
    del os.environ["OMP_NUM_THREADS"]  # Paddle would crash
CPU_THREADS = threads_of_a_cpu()

try:
    Path.cwd()
except OSError:  # Paddle cannot be loaded
    print(f"{Path(sys.argv[0]).name}: error: the current folder has been removed; change to another", file=sys.stderr)
    sys.exit(2)

with contextlib.suppress(OSError, RuntimeError):  # no home folder, or one that may not be looked at
    home = Path("~").expanduser()
    if not next(folder for folder in (home, *home.parents) if folder.exists()).is_dir():  # Paddle cannot be loaded
        print(f"{Path(sys.argv[0]).name}: error: the home folder {home} is no folder; set HOME to one", file=sys.stderr)
        sys.exit(2)

import numpy.random  # noqa: F401

# Exported networks are run and decoded on machines without Paddle too.
if importlib.util.find_spec("paddle"):
    stated = os.environ.get("OMP_NUM_THREADS")
    # Paddle's own handler of SIGTERM prints its stack. Until the end of this module the signal waits.
    if _previous_handlers and hasattr(signal, "pthread_sigmask"):  # not on Windows
        _previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _refuse_small_memory()
    import paddle

    # Without OMP_NUM_THREADS Paddle uses one thread, and sets the variable for every process that this one starts.
    paddle.base.core.set_num_threads(CPU_THREADS)
    if stated is None:
        os.environ.pop("OMP_NUM_THREADS", None)

for _number, _handler in _previous_handlers.items():
    if _handler is not None:  # None: set by a library, not by Python
        signal.signal(_number, _handler)
if _previous_mask is not None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _previous_mask)
