"""From soft masks of the network to masks at the size of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import paddle
from paddle import Tensor

from model.resize import bilinear_matrix

Size = tuple[int, int]
STRIP = 160  # output columns enlarged at a time: each is made of few inputs, which a product over all would not use


@lru_cache(maxsize=8)
def _axis_matrix(quarter: int, resized: int, original: int) -> np.ndarray:
    """One axis of both resizes, to the padded size, cut, and to the picture's size, as one [original, quarter]."""
    padded = bilinear_matrix(quarter, quarter * 4)[:resized]
    return (bilinear_matrix(resized, original) @ padded).astype(np.float32)


def masks_at_picture_size(
    soft_masks: Tensor, *, resized: Size, original: Size, threshold: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Enlarge soft masks to the picture and cut them at a threshold, one after another.

    soft_masks: float32 [n, h, w] at a quarter of the padded input's size; resized: (height, width) of the picture
    within the padded input; original: of the picture itself.
    Yields (top, left, uint8 [rows, columns]) of each mask: 1 inside. Outside of this window the mask is 0.

    The same as two bilinear resizes with a cut between them, as in the original SOLO, but only for the window that
    the mask can reach: a resized pixel exceeds the threshold only where one of the pixels it is made of does.
    """
    rows = _axis_matrix(soft_masks.shape[1], resized[0], original[0])
    columns = _axis_matrix(soft_masks.shape[2], resized[1], original[1])
    inside = (soft_masks > threshold).numpy()  # reduced in numpy, because Paddle 2.6 reduces no empty tensor
    occupied = inside.any(axis=2), inside.any(axis=1)  # [n, h], [n, w]
    for soft, occupied_rows, occupied_columns in zip(soft_masks, *occupied):
        top, bottom, y0, y1 = _window(rows, occupied_rows)
        left, right, x0, x1 = _window(columns, occupied_columns)
        if top == bottom or left == right:  # Paddle 2.6 multiplies no empty matrices
            yield 0, 0, np.zeros((0, 0), np.uint8)
            continue
        tall = paddle.to_tensor(rows[top:bottom, y0:y1]) @ soft[y0:y1, x0:x1]
        strips = []
        for start in range(left, right, STRIP):
            stop = min(start + STRIP, right)
            inputs = np.flatnonzero(columns[start:stop].any(axis=0))
            first, last = inputs[0], inputs[-1] + 1
            weights = paddle.to_tensor(columns[start:stop, first:last])
            enlarged = paddle.matmul(tall[:, first - x0 : last - x0], weights, transpose_y=True)
            strips.append((enlarged > threshold).astype("uint8").numpy())
        yield top, left, np.concatenate(strips, axis=1)


def _window(matrix: np.ndarray, occupied: np.ndarray) -> tuple[int, int, int, int]:
    """Outputs that occupied inputs can reach, and the inputs that these outputs need: two half-open ranges."""
    outputs = np.flatnonzero(matrix @ occupied)
    if not len(outputs):
        return 0, 0, 0, 0
    top, bottom = outputs[0], outputs[-1] + 1
    inputs = np.flatnonzero(matrix[top:bottom].any(axis=0))
    return top, bottom, inputs[0], inputs[-1] + 1
