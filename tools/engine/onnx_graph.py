"""Graphs in ONNX Runtime on a CPU; neither Paddle nor the package `onnx` is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.startup import CPU_THREADS
from tools.common.memory import release_memory
from tools.engine.graph import Graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def load_onnx_graph(path: Path, precision: str, *, streams: int = 1) -> Graph:
    """Load a portable graph of `graph_writer.write_graph`. streams: threads that call it at a time."""
    session = open_session(path.with_suffix(".onnx"), streams=streams)
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays)))


def open_session(path: Path, *, streams: int = 1) -> InferenceSession:
    """Open an ONNX file with the settings that suit our networks. streams: threads that run it at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CPU_THREADS - streams + 1  # each caller is a thread that computes, too
    options.enable_mem_pattern = False  # it would reserve memory again for each picture size
    # Its threads would wait actively for work while ours decode.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    release_memory()  # loading needs a copy of the weights
    return session
