"""Measure the peak memory of the process, and return unused memory to the system."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

MEBI = 2**20
STATUS = Path("/proc/self/status")


def peak_memory() -> float:
    """Return the peak memory in MiB: of the GPU if Paddle computes on one, otherwise of the process."""
    import paddle  # imported here, because programs without Paddle use this module too

    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated() / MEBI
    # Preferred to `getrusage`, whose value includes the program that started this one.
    if own := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text() if STATUS.exists() else ""):
        return int(own[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak_memory() -> None:
    """Reset the peak memory of the process to its present memory; without effect on systems other than Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def release_memory() -> None:
    """Return unused memory to the system. By itself glibc keeps free memory that is below any block in use."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
