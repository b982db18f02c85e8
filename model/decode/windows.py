"""Windows around the centres of cells, in which masks with `head.reach` are; for tensors see `plain_masks.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from config.networks import HeadConfig

TERMS = 6  # of the polynomial 1, y, x, y^2, x^2, x y


class Windows(NamedTuple):
    """The windows of n cells, all of the same height and width.

    A window has 2 * reach pixels in both directions, or as many as there are. At the border of the map it is moved
    inside.
    """

    tops: np.ndarray  # int64 [n], the first row of each
    lefts: np.ndarray  # int64 [n], the first column
    y: np.ndarray  # float32 [n, height], from the cell's centre to the middle of each row, in units of the reach
    x: np.ndarray  # float32 [n, width]

    def slices(self) -> list[tuple[slice, slice]]:
        """Return the rows and columns of each window."""
        height, width = self.y.shape[1], self.x.shape[1]
        corners = zip(self.tops.tolist(), self.lefts.tolist())
        return [(slice(top, top + height), slice(left, left + width)) for top, left in corners]


def cell_places(head: HeadConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the grid, row and column of each cell of all levels, int64 [cells] each."""
    grids = np.repeat(head.num_grids, np.square(head.num_grids))
    numbers = np.concatenate([np.arange(grid * grid) for grid in head.num_grids])
    return grids, numbers // grids, numbers % grids


def windows_of(cells: np.ndarray, head: HeadConfig, size: tuple[int, int]) -> Windows:
    """Return the windows of cells, int64 [n], on a map of this height and width."""
    grids, *places = (part[cells] for part in cell_places(head))
    axes = [_axis(place, grids, length, head.reach) for place, length in zip(places, size)]
    (tops, y), (lefts, x) = axes
    return Windows(tops, lefts, y, x)


def _axis(places: np.ndarray, grids: np.ndarray, length: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of each window in one direction, and its pixels relative to the cell's centre."""
    count = min(2 * reach, length)
    centres = (places + 0.5) / grids * length
    starts = ((2 * places + 1) * length - 2 * reach * grids + grids) // (2 * grids)  # centre - reach, rounded
    starts = np.clip(starts, 0, length - count)
    return starts, ((starts[:, None] + np.arange(count) + 0.5 - centres[:, None]) / reach).astype(np.float32)


def polynomial(weights: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the values of n polynomials, [n, height, width]; weights: [n, TERMS]; y: [n, height], x: [n, width]."""
    constant, of_y, of_x, of_yy, of_xx, of_xy = (weights[:, i, None] for i in range(TERMS))
    rows, columns = constant + y * (of_y + y * of_yy), x * (of_x + x * of_xx)
    return rows[:, :, None] + columns[:, None, :] + (of_xy * y)[:, :, None] * x[:, None, :]
