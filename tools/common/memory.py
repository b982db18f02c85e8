"""Recognise errors of too little memory, measure the peak memory, and keep unused memory or return it to the system."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

MEBI = 2**20
STATUS = Path("/proc/self/status")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of glibc
# In messages of OpenCV, ONNX Runtime, OpenVINO, Paddle and oneDNN, which raise errors of other types than MemoryError.
_NO_MEMORY = (
    "Failed to allocate",
    "ResourceExhausted",
    "bad_alloc",
    "could not create a memory object",
    "can't start new thread",
    "failed to map segment",
    os.strerror(errno.ENOMEM),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python or of one of the libraries means that there is too little memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def peak_memory() -> float | None:
    """Return the peak memory in MiB: of the GPU if Paddle computes on one, otherwise of the process.

    None on a system that does not report it (Windows).
    """
    import paddle  # imported here, because programs without Paddle use this module too

    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated() / MEBI
    # Preferred to `getrusage`, whose value includes the program that started this one.
    if own := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text() if STATUS.exists() else ""):
        return int(own[1]) / 1024
    try:
        import resource  # imported here, because Windows does not have it
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MEBI if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux KiB


def format_memory(mebibytes: float | None) -> str:
    """Return a result of `peak_memory` as text."""
    return "memory unknown" if mebibytes is None else f"{mebibytes:.0f} MiB"


def reset_peak_memory() -> None:
    """Reset the peak memory of the process to its present memory; without effect on systems other than Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def release_memory() -> None:
    """Return unused memory to the system. By itself glibc keeps free memory that is below any block in use."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def keep_memory() -> None:
    """Keep freed memory for the next tensors from now on; without effect where the C library is not glibc.

    glibc returns each block of 32 MiB and more to the system, which clears every page of the next one: about 2 % of a
    training step on a CPU.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, 2**31 - 1)
