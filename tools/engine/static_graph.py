"""Graphs in Paddle's inference library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle

from model.startup import CPU_THREADS
from tools.engine.graph import Graph
from tools.engine.graph_writer import graph_file


def load_static_graph(path: Path, precision: str) -> Graph:
    """Load a graph of `graph_writer.write_graph`; on a CPU it runs with oneDNN, on a GPU on the selected one."""
    from paddle import inference

    options = inference.Config(str(graph_file(path)), str(path.with_suffix(".pdiparams")))
    options.disable_glog_info()
    device = paddle.get_device()
    if device.startswith("gpu"):
        half = inference.PrecisionType.Half if precision == "fp16" else inference.PrecisionType.Float32
        options.enable_use_gpu(256, int(device.partition(":")[2]), half)
    else:
        options.disable_gpu()
        options.enable_mkldnn()
        # For one picture size at a time: each further one keeps a copy of the weights, and a new one is no slower.
        options.set_mkldnn_cache_capacity(1)
        options.set_cpu_math_library_num_threads(CPU_THREADS)
        if precision == "bf16":
            options.enable_mkldnn_bfloat16()
    predictor = inference.create_predictor(options)
    inputs = [predictor.get_input_handle(name) for name in predictor.get_input_names()]
    outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for handle, array in zip(inputs, arrays):
            handle.reshape(array.shape)
            handle.copy_from_cpu(array)
        predictor.run()
        return [handle.copy_to_cpu() for handle in outputs]

    return run
