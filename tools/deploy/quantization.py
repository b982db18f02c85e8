"""Quantize the graphs of a network to INT8 for OpenVINO, with NNCF's post-training quantization."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from config.errors import InputError
from tools.engine.compiled import SECOND_STAGE, TRUNK, CompiledEngine
from tools.engine.openvino_graph import INT8_REST, OpenVINOGraph, compile_model, onnx_extension
from tools.predict.predictor import PreparedInput

if TYPE_CHECKING:
    from openvino import CompiledModel, Model, Node

CONVOLUTIONS = ("Convolution", "GroupConvolution")
LAYERS = (*CONVOLUTIONS, "ConvolutionBackpropData", "DeformableConvolution", "MatMul")
# Group norm: 8 bits of its input cost 0.2 points of AP with the nuclei model.
IN_FLOAT = ("MVN",)
# Of an output in INT8, relative to its norm. CenterMask2 has 0.1, an output of zeros has 1.
MAX_ERROR = 0.5


class AccuracyControl(NamedTuple):
    """Keeps layers in float32 until the AP is high enough."""

    mask_ap: Callable[[], float]  # of the network with the graph that its engine has, 0 to 1
    max_drop: float  # of mask_ap


def quantize_graphs(
    engine: CompiledEngine,
    folder: Path,
    pictures: Sequence[Path],
    prepare: Callable[[Path], PreparedInput],
    pad: Callable[[list[PreparedInput]], np.ndarray],
    control: AccuracyControl | None = None,
) -> dict[str, Model]:
    """Return the graphs of a network in INT8 by name: its trunk, and CenterMask2's second stage.

    engine: of the network, with its scores as a graph of their own; folder: of its ONNX graphs; pictures: readable
    files for calibration; prepare, pad: make the network's input of one; control: for the trunk. The last layers stay
    in float32, and so do the scores, which are compared with those of neighbouring cells. Raises InputError if OpenVINO
    computes something else with a graph in INT8.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    trunk = _read(folder / TRUNK)
    images = nncf.Dataset(pictures, lambda path: pad([prepare(path)]))
    graphs = {TRUNK: _quantize(trunk, images, len(pictures), engine, control)}
    check_agreement(graphs[TRUNK], [pad([prepare(pictures[0])])])
    if inputs := _second_stage_inputs(engine, map(prepare, pictures), pad):
        second_stage = _read(folder / SECOND_STAGE)
        graphs[SECOND_STAGE] = _quantize(second_stage, nncf.Dataset(inputs), len(inputs))
        check_agreement(graphs[SECOND_STAGE], inputs[0])
    return graphs


def _read(path: Path) -> Model:
    """Read an ONNX graph with its batch norms folded into its convolutions."""
    import openvino

    return openvino.convert_model(path.with_suffix(".onnx"), extension=[onnx_extension()])


def _quantize(
    graph: Model,
    inputs: Any,
    count: int,
    engine: CompiledEngine | None = None,
    control: AccuracyControl | None = None,
) -> Model:
    import nncf

    scope = nncf.IgnoredScope(names=last_layers(graph), types=list(IN_FLOAT), validate=False)
    separate_readers(graph, shared_convolutions(nncf.quantize(graph, inputs, subset_size=1, ignored_scope=scope)))
    if control is None or engine is None:
        return nncf.quantize(graph, inputs, subset_size=count, ignored_scope=scope)

    def mask_ap(compiled: CompiledModel, _: object) -> tuple[float, None]:
        engine.main = OpenVINOGraph(compiled)
        return control.mask_ap(), None

    return nncf.quantize_with_accuracy_control(
        graph,
        inputs,
        nncf.Dataset([0]),  # the pictures are read by `mask_ap`
        mask_ap,
        max_drop=control.max_drop,
        subset_size=count,
        ignored_scope=scope,
    )


def shared_convolutions(graph: Model) -> list[str]:
    """Return the names of the convolutions, or of the sums with their biases, that several operations read, not all of
    them in INT8."""
    found = []
    for operation in graph.get_ordered_ops():
        if operation.get_type_name() in CONVOLUTIONS:
            readers = _readers(operation)
            if [reader.get_type_name() for reader in readers] == ["Add"]:
                (operation,) = readers
                readers = _readers(operation)
            if len(readers) > 1 and any(reader.get_type_name() != "FakeQuantize" for reader in readers):
                found.append(operation.get_friendly_name())
    return found


def separate_readers(graph: Model, names: Collection[str]) -> None:
    """Put an operation that changes no value between these operations and their readers.

    Without it, OpenVINO 2026.4 applies the scale of an INT8 convolution twice for its readers in INT8, which then get
    next to nothing. It moves no scale through a minimum.
    """
    from openvino import opset8

    for operation in graph.get_ordered_ops():
        if operation.get_friendly_name() in names:
            inputs = operation.output(0).get_target_inputs()
            same = opset8.minimum(operation, np.finfo(np.float32).max)
            for one in inputs:
                one.replace_source_output(same.output(0))


def _readers(operation: Node) -> list[Node]:
    """Return the operations that read the values of an operation."""
    nodes = [one.get_node() for one in operation.output(0).get_target_inputs()]
    return [node for node in nodes if node.get_type_name() != "ShapeOf"]


def check_agreement(graph: Model, inputs: Sequence[np.ndarray]) -> None:
    """Raise InputError if an output of a graph in INT8 differs by more than MAX_ERROR from that of the same graph
    computed in float32, with values rounded as in INT8."""
    computed = compile_model(graph, INT8_REST)(inputs)
    rounded = compile_model(graph, "fp32", low_precision=False)(inputs)
    for place, (ours, expected) in enumerate(zip(computed, rounded)):
        error = np.linalg.norm(ours - expected) / max(np.linalg.norm(expected), np.finfo(np.float32).tiny)
        if not error < MAX_ERROR:
            raise InputError(
                f"OpenVINO {version('openvino')} computes the INT8 network wrongly: its output {place} differs by "
                f"{error:.0%}, so nothing was written; use --precision bf16, or install another version of OpenVINO"
            )


def last_layers(graph: Model) -> list[str]:
    """Return the names of the layers that feed no other layer."""
    feeds_layer: set[str] = set()  # names of operations on which some layer depends
    last = []
    for operation in reversed(graph.get_ordered_ops()):
        name = operation.get_friendly_name()
        consumers = (target.get_node() for output in operation.outputs() for target in output.get_target_inputs())
        before_another = any(consumer.get_friendly_name() in feeds_layer for consumer in consumers)
        is_layer = operation.get_type_name() in LAYERS
        if is_layer and not before_another:
            last.append(name)
        if is_layer or before_another:
            feeds_layer.add(name)
    return last


def _second_stage_inputs(
    engine: CompiledEngine, pictures: Iterable[PreparedInput], pad: Callable[[list[PreparedInput]], np.ndarray]
) -> list[list[np.ndarray]]:
    """Return what the second stage gets for these pictures; nothing if the network has none."""
    if not engine.has_second_stage:
        return []
    inputs: list[list[np.ndarray]] = []

    def record(features: Any, classes: np.ndarray) -> tuple[Any, ...]:
        inputs.append([features.numpy(), classes])
        return engine.run_second_stage(features, classes)

    for picture in pictures:
        engine.kind.complete(engine.run_first_stage(pad([picture])), [picture.size], engine.config, record)
    return inputs
