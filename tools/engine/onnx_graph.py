"""ONNX Runtime on a CPU; neither Paddle nor the package `onnx` is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.startup import CPU_THREADS
from tools.common.memory import release_memory

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CPU_THREADS
    options.enable_mem_pattern = False  # it would reserve memory for each size of a picture, again and again
    # Its threads would go on looking for work while ours decode what it has found.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors: it warns of each place where it could have done better
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    release_memory()  # loading takes a copy of the weights
    return session
