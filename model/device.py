"""Select the CPU or a GPU."""

from __future__ import annotations

import os
import re

import numpy as np
import paddle
from paddle import Tensor

from config.errors import InputError

LAUNCHER_GPU = "FLAGS_selected_gpus"  # environment variable of paddle.distributed.launch


def select_device(name: str) -> str:
    """Make `auto`, `cpu`, `gpu` or `gpu:i` the device of everything that follows and return its full name.

    `auto` is a GPU where Paddle sees one, and without a number it is the first, or the one that
    `paddle.distributed.launch` gave to this process. Raises InputError where a GPU is asked for and there is none.
    """
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", name):
        raise InputError(f"device {name}: expected auto, cpu, gpu or gpu:0, gpu:1 ...")
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if name == "auto":
        name = "gpu" if count else "cpu"
    if name.startswith("gpu"):
        index = int(name.partition(":")[2] or os.environ.get(LAUNCHER_GPU) or 0)
        if index >= count:
            raise InputError(f"device {name}: {_why_none(count)}; use device cpu")
        name = f"gpu:{index}"
    paddle.set_device(name)
    return name


def _why_none(count: int) -> str:
    if not paddle.is_compiled_with_cuda():
        return "this Paddle is built for CPU only, GPUs need the package paddlepaddle-gpu"
    return f"Paddle sees {count} GPU{'' if count == 1 else 's'}"


def on_device(array: np.ndarray | Tensor) -> Tensor:
    """Return an array as a tensor on the selected device; on a CPU the two share memory, because a copy takes time."""
    if isinstance(array, Tensor):
        return array
    if paddle.get_device() == "cpu":
        return paddle.utils.dlpack.from_dlpack(array.__dlpack__())
    return paddle.to_tensor(array)
