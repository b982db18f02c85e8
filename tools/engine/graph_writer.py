"""Write the graph of a layer to files, for Paddle's inference library or as ONNX."""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paddle
from paddle import nn

import model
from data.files import check_room
from model.layers import DeformConv2D, GroupNorm
from model.resize import resizes_by_operation

_GRAPH_BYTES = 1 << 22  # more than a graph takes without its weights
OPSET = 17  # at least; paddle2onnx takes 19 for deformable convolutions


def write_graph(layer: nn.Layer, inputs: Sequence, path: Path, *, portable: bool) -> None:
    """Write a layer's graph: `path`.json (.pdmodel) and .pdiparams for Paddle, or .onnx if it is portable.

    inputs: an InputSpec, or a list of them, for each argument. portable: with operations that other programs know. The
    layer cannot be called afterwards: Paddle changes it. Raises OSError if the files do not fit on the disk.
    """
    weights = sum(math.prod(value.shape) * value.element_size() for value in layer.state_dict().values())
    # Paddle does not notice a full disk. The ONNX file is written while Paddle's files are still there.
    check_room(path.parent, (2 if portable else 1) * weights + _GRAPH_BYTES)
    for part in layer.sublayers():
        if isinstance(part, (DeformConv2D, GroupNorm)):
            part.portable = portable
    # No branch of the networks depends on data; translating their Python code would take most of the time.
    paddle.jit.ignore_module([model])
    with _silence(), resizes_by_operation(portable):
        paddle.jit.save(paddle.jit.to_static(layer, input_spec=inputs, full_graph=True), str(path))
        if portable:
            _to_onnx(path)


def _to_onnx(path: Path) -> None:
    import paddle2onnx

    written = graph_file(path), path.with_suffix(".pdiparams")
    target = path.with_suffix(".onnx")
    try:
        paddle2onnx.export(*map(str, written), str(target), opset_version=OPSET, optimize_tool="None")
    except SystemExit as error:  # how paddle2onnx reports that it cannot
        version = importlib.metadata.version("paddle2onnx")
        raise RuntimeError(f"paddle2onnx {version} cannot translate {path}") from error
    for file in written:
        file.unlink()


def graph_file(path: Path) -> Path:
    """Return the file that Paddle 3 or Paddle 2 wrote for this path."""
    return next(file for file in (path.with_suffix(".json"), path.with_suffix(".pdmodel")) if file.exists())


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the output of libraries in the block; they report errors by exceptions."""
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
