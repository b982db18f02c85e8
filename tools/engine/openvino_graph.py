"""Graphs in OpenVINO on a CPU."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.errors import InputError
from model.startup import CPU_THREADS, CPUINFO
from tools.engine.graph import Graph
from tools.engine.int8 import Int8Graph

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model, Output
    from openvino.frontend import NodeContext
    from openvino.frontend.onnx import ConversionExtension

# The precision of what is not in INT8: bfloat16 where the processor has instructions for it.
HAS_BFLOAT16 = CPUINFO.exists() and not {"amx_bf16", "avx512_bf16"}.isdisjoint(CPUINFO.read_text().split())
INT8_REST = "bf16" if HAS_BFLOAT16 else "fp32"


def load_openvino_graph(path: Path, precision: str, *, streams: int = 1) -> Graph:
    """Load a portable graph of `graph_writer.write_graph`. streams: threads that call it at a time."""
    return compile_model(str(path.with_suffix(".onnx")), precision, streams)


def load_int8_graph(graph: Int8Graph, *, streams: int = 1) -> Graph:
    """Load a graph of an INT8 file; what is not in INT8 is computed in INT8_REST. streams: as above.

    Raises InputError if OpenVINO cannot load it.
    """
    import openvino

    try:
        model = openvino.Core().read_model(graph.description, graph.weights)
        return compile_model(model, INT8_REST, streams)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{graph.path}: OpenVINO cannot load it ({reason}); {graph.remedy}") from error


def compile_model(model: str | Model, precision: str, streams: int = 1, *, low_precision: bool = True) -> Graph:
    """Compile a model, or the ONNX file of that path.

    streams: as above; low_precision: compute what is quantized in INT8, otherwise in `precision` with its values
    rounded as in INT8.
    """
    import openvino

    core = openvino.Core()
    core.add_extension(onnx_extension())
    hints: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
    hints.update(INFERENCE_NUM_THREADS=CPU_THREADS, NUM_STREAMS=streams)
    if not low_precision:
        hints["LP_TRANSFORMS_MODE"] = "NO"  # known to all of OpenVINO 2024 to 2026, in no list of theirs
    with kept_signal_stack():
        return OpenVINOGraph(core.compile_model(model, "CPU", hints))


def onnx_extension() -> ConversionExtension:
    """Return the translation of DeformConv, which OpenVINO's reader of ONNX lacks."""
    from openvino.frontend.onnx import ConversionExtension

    return ConversionExtension("DeformConv", _deform_conv)


class OpenVINOGraph:
    """A compiled model whose results stay in the memory of its requests.

    Copying them to new memory for each picture would take as long as some layers. A request is used again when nobody
    holds its results any more. Several threads may call it.
    """

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self._idle: list[InferRequest] = []

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        results = list(request.infer(list(arrays), share_outputs=True).values())
        holders = [request] + [None] * (len(results) - 1)  # one item for each result; the request goes last
        for array in results:
            finalizer: Any = weakref.finalize(array, self._release, holders)
            finalizer.atexit = False
        return results

    def _release(self, holders: list[InferRequest | None]) -> None:
        if request := holders.pop():
            self._idle.append(request)


class SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore this thread's stack for signals after the block.

    On CPUs with AMX, OpenVINO sets its own stack and frees it with the network. If another thread frees it, the next
    signal would end the process with a segmentation fault.
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
    """Translate DeformConv of ONNX, whose inputs are x, weight, offset, bias and perhaps the modulation, to
    OpenVINO."""
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
        bilinear_interpolation_pad=True,  # positions partly outside count in part
    )
    return [opset8.add(convolved, opset8.reshape(bias, np.array([1, -1, 1, 1]), False)).output(0)]
