"""Quantize the graphs of a network to INT8 for OpenVINO, with NNCF's post-training quantization."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tools.engine.compiled import SECOND_STAGE, TRUNK, CompiledEngine
from tools.engine.openvino_graph import OpenVINOGraph, onnx_extension
from tools.predict.predictor import PreparedInput

if TYPE_CHECKING:
    from openvino import CompiledModel, Model

LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "DeformableConvolution", "MatMul")
# Group norm: 8 bits of its input cost 0.2 points of AP with the nuclei model.
IN_FLOAT = ("MVN",)


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
    in float32, and so do the scores, which are compared with those of neighbouring cells.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    trunk = _read(folder / TRUNK)
    images = nncf.Dataset(pictures, lambda path: pad([prepare(path)]))
    graphs = {TRUNK: _quantize(trunk, images, len(pictures), engine, control)}
    if inputs := _second_stage_inputs(engine, map(prepare, pictures), pad):
        graphs[SECOND_STAGE] = _quantize(_read(folder / SECOND_STAGE), nncf.Dataset(inputs), len(inputs))
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
