"""Quantize an exported ONNX file to INT8 with ONNX Runtime's tools."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import temporary_folder
from data.images import read_image
from data.written import write_output
from tools.deploy.exported import IMAGES
from tools.predict.predictor import Predictor

if TYPE_CHECKING:
    from onnx import ModelProto

DECISIONS = ("ArgMax", "Equal", "Greater", "GreaterOrEqual", "TopK")


def quantize_exported(
    model: Path, predictor: Predictor, paths: Sequence[Path], output: Path, *, keep_last: bool
) -> int:
    """Write a file of tools/export.py in INT8, and return how many of its convolutions are in INT8.

    ONNX Runtime runs the network on the pictures `paths` and chooses scales by the largest and smallest values, with a
    scale for each channel of the weights. Only convolutions compute in INT8: norms, deformable convolutions and the
    comparison of neighbouring cells, which would find many of them equal, stay in float32.
    predictor: of the file. keep_last: the last convolutions stay in float32 too.
    Raises InputError if the file is in INT8 already.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, bar: Iterable[Path]) -> None:
            self.paths = iter(bar)

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.paths, None)
            if path is None:
                return None
            return {IMAGES: predictor.pad([predictor.prepare(read_image(path, predictor.config.data.stretch))])}

    graph = onnx.load(model)
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        raise InputError(f"{model}: is in INT8 already; give the float32 file")
    kept = last_convolutions(graph) if keep_last else []
    quantized = sum(node.op_type == "Conv" for node in graph.graph.node) - len(kept)
    with temporary_folder() as folder:
        named, written = folder / "named.onnx", folder / "quantized.onnx"
        onnx.save(graph, named)
        logging.disable(logging.WARNING)  # it advises to simplify the graph first, which export has done
        with tqdm(paths, unit="picture", desc="calibration", disable=None) as bar:  # closed before an error is printed
            quantization.quantize_static(
                named,
                written,
                Reader(bar),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                nodes_to_exclude=kept,
            )
        logging.disable(logging.NOTSET)
        result = onnx.load(written)
        del result.metadata_props[:]
        result.metadata_props.extend(graph.metadata_props)
        onnx.save(result, written)
        with write_output(output, kind="network") as temporary:
            shutil.copyfile(written, temporary)
    return quantized


def last_convolutions(model: ModelProto) -> list[str]:
    """Return the names of the convolutions that feed no other convolution; nodes without a name get one.

    A decision ends the path: the convolutions that predict CenterMask2's boxes are last ones too.
    """
    feeds_convolution = set()  # names of arrays that some convolution depends on
    last = []
    for number, node in reversed(list(enumerate(model.graph.node))):  # nodes come after their inputs
        is_convolution = node.op_type in ("Conv", "DeformConv")
        node.name = node.name or f"{node.op_type}_{number}"
        before_another = any(name in feeds_convolution for name in node.output)
        if node.op_type == "Conv" and not before_another:
            last.append(node.name)
        if (is_convolution or before_another) and node.op_type not in DECISIONS:
            feeds_convolution.update(node.input[:1] if node.op_type == "RoiAlign" else node.input)
    return last
