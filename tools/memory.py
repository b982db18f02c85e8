"""How much memory the process has needed."""

from __future__ import annotations

import resource

import paddle

MEBI = 2**20


def peak_memory() -> float:
    """Most memory so far in MiB: of the GPU where it computes there, otherwise of the process."""
    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated() / MEBI
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
