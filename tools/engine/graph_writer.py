"""Compiled graphs: written from a layer, run by Paddle's inference library, ONNX Runtime or OpenVINO on a CPU."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import numpy as np
import paddle
from paddle import nn

import model
from model.layers import DeformConv2D, GroupNorm
from model.resize import resizes_by_operation
from model.startup import CPU_THREADS
from tools.engine.onnx_graph import open_session

if TYPE_CHECKING:
    from openvino import Output
    from openvino.frontend import NodeContext

Graph = Callable[[Sequence[np.ndarray]], "list[np.ndarray]"]  # inputs to outputs, in the order of the layer's

OPSET = 17  # at least; paddle2onnx takes 19 where a convolution is deformable


def write_graph(layer: nn.Layer, inputs: Sequence, path: Path, *, portable: bool) -> None:
    """Write what the layer computes: `path`.json (.pdmodel) and .pdiparams of Paddle, or .onnx where it is portable.

    inputs: an InputSpec, or a list of them, for each argument. portable: of operations that other programs know. The
    layer must not be called afterwards: Paddle leaves it changed.
    """
    for part in layer.sublayers():
        if isinstance(part, (DeformConv2D, GroupNorm)):
            part.portable = portable
    # The networks have no branch that depends on data; translating their code would take most of the time.
    paddle.jit.ignore_module([model])
    with _silence(), resizes_by_operation(portable):
        paddle.jit.save(paddle.jit.to_static(layer, input_spec=inputs, full_graph=True), str(path))
        if portable:
            _to_onnx(path)


def _to_onnx(path: Path) -> None:
    import paddle2onnx

    written = _graph_file(path), path.with_suffix(".pdiparams")
    target = path.with_suffix(".onnx")
    try:
        paddle2onnx.export(*map(str, written), str(target), opset_version=OPSET, optimize_tool="None")
    except SystemExit as error:  # its way of saying that it cannot
        version = importlib.metadata.version("paddle2onnx")
        raise RuntimeError(f"paddle2onnx {version} cannot translate {path}") from error
    for file in written:
        file.unlink()


def _graph_file(path: Path) -> Path:
    """Of Paddle 3, or of Paddle 2."""
    return next(file for file in (path.with_suffix(".json"), path.with_suffix(".pdmodel")) if file.exists())


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that libraries print in the block is seen; what goes wrong is said by exceptions."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(nothing.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in zip((1, 2), kept):
                os.dup2(original, number)
                os.close(original)


def static_graph(path: Path, precision: str) -> Graph:
    """By Paddle: on a CPU with oneDNN, on a GPU the one that is selected."""
    from paddle import inference

    options = inference.Config(str(_graph_file(path)), str(path.with_suffix(".pdiparams")))
    options.disable_glog_info()
    device = paddle.get_device()
    if device.startswith("gpu"):
        half = inference.PrecisionType.Half if precision == "fp16" else inference.PrecisionType.Float32
        options.enable_use_gpu(256, int(device.partition(":")[2]), half)
    else:
        options.disable_gpu()
        options.enable_mkldnn()
        # Of one size of picture at a time: each one more keeps a copy of the weights, and a new one is no slower.
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


def onnx_graph(path: Path, precision: str) -> Graph:
    session = open_session(path.with_suffix(".onnx"))
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays)))


def openvino_graph(path: Path, precision: str) -> Graph:
    import openvino
    from openvino.frontend.onnx import ConversionExtension

    core = openvino.Core()
    core.add_extension(ConversionExtension("DeformConv", _deform_conv))  # its reader of ONNX has none
    hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
    hints["INFERENCE_NUM_THREADS"] = CPU_THREADS
    with kept_signal_stack():
        compiled = core.compile_model(str(path.with_suffix(".onnx")), "CPU", hints)
    idle = []  # requests whose results nobody holds any longer

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        request = idle.pop() if idle else compiled.create_infer_request()
        # Not copied from the request's memory: new megabytes for each picture take as long as some layers do.
        results = list(request.infer(list(arrays), share_outputs=True).values())
        held = [request] + [None] * (len(results) - 1)

        def let_go() -> None:
            if last := held.pop():
                idle.append(last)

        for array in results:
            weakref.finalize(array, let_go).atexit = False
        return results

    return run


class SignalStack(ctypes.Structure):
    """Linux's stack_t."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Signals of this thread are handled behind the block on the same stack as before it.

    Where the CPU has AMX, OpenVINO sets a stack of its own, and frees it with the network. If another thread does that,
    the next signal would end the process with a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    program, stack = ctypes.CDLL(None), SignalStack()
    program.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        program.sigaltstack(ctypes.byref(stack), None)


def _deform_conv(node: NodeContext) -> list[Output]:
    """ONNX's DeformConv in OpenVINO's operations: x, weight, offset, bias, and the modulation where there is one."""
    from openvino import opset8

    x, weight, offset, bias, *modulation = [node.get_input(i) for i in range(node.get_input_size())]
    pads = node.get_attribute("pads")
    convolved = opset8.deformable_convolution(
        x,
        offset,
        weight,
        node.get_attribute("strides"),
        pads[:2],
        pads[2:],
        node.get_attribute("dilations"),
        *modulation,
        group=node.get_attribute("group", 1),
        deformable_group=node.get_attribute("offset_group", 1),
        bilinear_interpolation_pad=True,  # a place that is partly outside counts in part
    )
    return [opset8.add(convolved, opset8.reshape(bias, np.array([1, -1, 1, 1]), False)).output(0)]


GRAPHS = {"static": static_graph, "onnx": onnx_graph, "openvino": openvino_graph}
