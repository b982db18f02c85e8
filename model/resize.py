"""Bilinear resizing: pixel centres at half integers, borders repeated (`align_corners=False`)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

LONGEST_BY_MATRIX = 128  # pixels; the cost of a product grows with the square of a side


def resize_bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, C, H, W] to [N, C, *size].

    Small maps on a CPU by two products with constant matrices, which forward and backward take a quarter of the time of
    Paddle's interpolation there. The same values, except for a side of 1, which Paddle's makes of the first pixel.
    """
    on_cpu = paddle.in_dynamic_mode() and x.place.is_cpu_place()  # a static graph does not know where it will run
    if not on_cpu or max(*size, *x.shape[2:]) > LONGEST_BY_MATRIX:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    rows, columns = _matrix(x.shape[2], size[0]), _matrix(x.shape[3], size[1])
    return paddle.matmul(paddle.matmul(rows, x), columns, transpose_y=True)


@lru_cache(maxsize=64)
def _matrix(before: int, after: int) -> Tensor:
    return paddle.to_tensor(bilinear_matrix(before, after).astype(np.float32), place=paddle.CPUPlace())


def bilinear_matrix(before: int, after: int) -> np.ndarray:
    """The matrix [after, before] that resizes one axis: pixel centres at half integers, borders repeated; float64."""
    centres = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    lower = np.minimum(centres.astype(int), before - 1)
    upper = np.minimum(lower + 1, before - 1)
    matrix = np.zeros((after, before))
    rows = np.arange(after)
    matrix[rows, lower] += 1 - (centres - lower)
    matrix[rows, upper] += centres - lower
    return matrix
