"""Bilinear resizing: pixel centres at half integers, borders repeated (`align_corners=False`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from model.bilinear import bilinear_matrix

LONGEST_BY_MATRIX = 128  # pixels; the cost of a product grows with the square of a side


def resize_bilinear(x: Tensor, size: Sequence[int | Tensor]) -> Tensor:
    """Resize [N, C, H, W] to [N, C, *size].

    On a CPU, small maps are resized by two products with constant matrices: forward and backward take a quarter of the
    time of Paddle's interpolation. The values are the same, except for a target side of 1, for which Paddle takes the
    first pixel. Static graphs compute the matrices themselves, because sizes are known only when they run, or use an
    operation (`resizes_by_operation`).
    """
    static = not paddle.in_dynamic_mode()
    if static and _by_operation:
        return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
    if not static and (not x.place.is_cpu_place() or max(*size, *x.shape[2:]) > LONGEST_BY_MATRIX):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    matrix = _matrix_in_graph if static else _matrix
    height, width = shape_of(x)[2:]
    rows, columns = matrix(height, size[0]), matrix(width, size[1])
    maps = x.flatten(stop_axis=1)  # three axes, because Paddle 3.3 multiplies a convolution's four wrongly on oneDNN
    # Not by transpose_y, which Paddle 3.3's inference library computes wrongly on oneDNN for maps one pixel wide.
    resized = paddle.matmul(paddle.matmul(rows, maps), columns.t())
    return resized.reshape([-1, x.shape[1], *size])


_by_operation = False  # in static graphs


@contextmanager
def resizes_by_operation(wanted: bool) -> Iterator[None]:
    """Make static graphs that are written in the block resize by an operation, if `wanted`, instead of matrices.

    In bfloat16, OpenVINO would compute positions in the matrices in bfloat16, which has no half pixels beyond 128, and
    it would copy maps to another layout.
    """
    global _by_operation
    before, _by_operation = _by_operation, wanted
    try:
        yield
    finally:
        _by_operation = before


def doubled(x: Tensor) -> Tensor:
    """Enlarge [N, C, H, W] to [N, C, 2 * H, 2 * W], bilinear."""
    height, width = shape_of(x)[2:]
    # Sums, because OpenVINO takes products in a graph with INT8 for scales of INT8 and then cannot compile it.
    return resize_bilinear(x, (height + height, width + width))


def halved(x: Tensor) -> Tensor:
    """Shrink [N, C, H, W], whose sides are even, to [N, C, H / 2, W / 2], bilinear: each pixel is the mean of four."""
    return F.avg_pool2d(x, kernel_size=2)


def double_nearest(x: Tensor) -> Tensor:
    """Enlarge [N, C, H, W] to [N, C, 2 * H, 2 * W], each pixel four times."""
    channels, height, width = shape_of(x)[1:]
    if not paddle.in_dynamic_mode() and _by_operation:
        return F.interpolate(x, size=[height + height, width + width], mode="nearest")
    # On oneDNN Paddle 3.3's inference library cannot run the operation.
    wide = paddle.stack([x, x], axis=4).reshape([-1, channels, height, 1, 2 * width])
    return paddle.concat([wide, wide], axis=3).reshape([-1, channels, 2 * height, 2 * width])


def shape_of(x: Tensor) -> list[int | Tensor]:
    """Return the sides of a tensor as integers; in a static graph, sides known only when it runs are tensors."""
    if paddle.in_dynamic_mode():
        return x.shape
    sides = paddle.shape(x)
    return [sides[axis] if side == -1 else side for axis, side in enumerate(x.shape)]


def _matrix_in_graph(before: int | Tensor, after: int | Tensor) -> Tensor:
    """Return `bilinear_matrix` as float32 for sizes that may be tensors."""
    before, after = paddle.to_tensor(before, dtype="float32"), paddle.to_tensor(after, dtype="float32")
    centres = (paddle.arange(after, dtype="float32") + 0.5) * (before / after) - 0.5
    centres = paddle.minimum(F.relu(centres), before - 1)
    return F.relu(1 - (centres.unsqueeze(1) - paddle.arange(before, dtype="float32")).abs())


@lru_cache(maxsize=64)
def _matrix(before: int, after: int) -> Tensor:
    return paddle.to_tensor(bilinear_matrix(before, after).astype(np.float32), place=paddle.CPUPlace())
