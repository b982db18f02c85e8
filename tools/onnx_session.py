"""ONNX Runtime on a CPU; neither Paddle nor the package `onnx` is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model import CPU_THREADS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CPU_THREADS
    options.enable_cpu_mem_arena = False  # it grows with each new size of a picture and keeps everything
    options.log_severity_level = 3  # errors: it warns of each place where it could have done better
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
