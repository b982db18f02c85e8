"""Windows around the centres of cells, in which masks with `head.reach` are; for tensors see `plain_masks.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from config.networks import HeadConfig

TERMS = 6  # of the polynomial 1, y, x, y^2, x^2, x y
TAPS = 3  # pixels of a mask, along an axis, that a pixel of the picture is made of


@dataclass(frozen=True)
class WindowedMaps:
    """n maps that are 0 outside of their windows, which are all of the same height and width."""

    size: tuple[int, int]  # height and width of a map
    tops: np.ndarray  # int64 [n], the first row of each window
    lefts: np.ndarray  # int64 [n], the first column
    parts: np.ndarray  # [n, height, width], the values inside

    @classmethod
    def of_whole(cls, maps: np.ndarray) -> WindowedMaps:
        """Take maps, [n, h, w], as windows of their full size."""
        start = np.zeros(len(maps), np.int64)
        return cls(maps.shape[1:], start, start, maps)

    def __getitem__(self, chosen: slice) -> WindowedMaps:
        return WindowedMaps(self.size, self.tops[chosen], self.lefts[chosen], self.parts[chosen])

    def whole(self) -> np.ndarray:
        """Return the maps, [n, h, w]."""
        maps = np.zeros((len(self.parts), *self.size), self.parts.dtype)
        height, width = self.parts.shape[1:]
        for map_, top, left, part in zip(maps, self.tops, self.lefts, self.parts):
            map_[top : top + height, left : left + width] = part
        return maps

    def packed(self) -> np.ndarray:
        """Return bool maps as bits, uint8 [n, h * ceil(w / 8)]: each row of a map begins with a new byte."""
        count, height, width = self.parts.shape
        bits = np.zeros((count, self.size[0], -(-self.size[1] // 8)), np.uint8)
        # The windows with zeros at both sides, so that each begins with a byte of the map.
        aligned = np.zeros((count, height, width + 7), bool)
        for pixels, part, left in zip(aligned, self.parts, self.lefts.tolist()):
            pixels[:, left % 8 : left % 8 + width] = part
        places = zip(bits, np.packbits(aligned, axis=2), self.tops.tolist(), (self.lefts // 8).tolist())
        for map_, window, top, left in places:
            inside = map_[top : top + height, left : left + window.shape[1]]
            inside[:] = window[:, : inside.shape[1]]  # at the right border the last byte may be all zeros
        return bits.reshape(count, -1)


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


@lru_cache(maxsize=8)
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
