"""How much memory the process has needed, and what it can give back."""

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
    """Most memory so far in MiB: of the GPU where it computes there, otherwise of the process."""
    import paddle  # not for all of this module: what comes back is memory of programs without Paddle too

    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated() / MEBI
    # What the other call says includes the program that this one was started by.
    if own := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text() if STATUS.exists() else ""):
        return int(own[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak_memory() -> None:
    """Let `peak_memory` of the process begin anew, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def release_memory() -> None:
    """Memory that nothing needs goes back to the system; glibc keeps what lies below anything that is in use."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
