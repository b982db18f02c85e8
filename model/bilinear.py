"""Bilinear resizing by constant matrices: pixel centres at half integers, borders repeated (`align_corners=False`)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def interpolation_taps(before: int, after: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the two source pixels of each pixel of a resized axis: twice (index, int64 [after], weight, float64
    [after]).
    """
    centres = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    lower = centres.astype(np.int64)
    upper = np.minimum(lower + 1, before - 1)
    return [(lower, 1 - (centres - lower)), (upper, centres - lower)]


def bilinear_matrix(before: int, after: int) -> np.ndarray:
    """Return the matrix that resizes one axis, float64 [after, before]."""
    matrix = np.zeros((after, before))
    for pixels, shares in interpolation_taps(before, after):
        matrix[np.arange(after), pixels] += shares
    return matrix


def resize_maps(maps: np.ndarray, size: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Resize maps, float32 [n, h, w], to [n, *size]. out: the array to write to."""
    wide = maps.reshape(-1, maps.shape[2]) @ _matrix(maps.shape[2], size[1]).T  # one product for all maps
    return np.matmul(_matrix(maps.shape[1], size[0]), wide.reshape(len(maps), -1, size[1]), out=out)


@lru_cache(maxsize=64)
def _matrix(before: int, after: int) -> np.ndarray:
    return bilinear_matrix(before, after).astype(np.float32)
