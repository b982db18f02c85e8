"""Masks of chosen cells for SOLOv2 with `head.reach`, in their windows: the fast `plain_masks.windowed_masks`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np

from config.networks import HeadConfig
from model.decode.fast_masks import CellMasks, Inside, sigmoid, sums_inside
from model.decode.loops import numba_loops
from model.decode.threads import parallel_map
from model.decode.windows import WindowedMaps, polynomial, windows_of
from model.startup import CPU_THREADS

WINDOWS_AT_ONCE = 16  # masks; fewer share fewer pixels of the features, more span larger parts of them


class WindowMasks(CellMasks):
    """SOLOv2 with `head.reach`: the masks of `plain_masks.windowed_masks`, computed in their windows only.

    kernels: float32 [cells, D + TERMS]; feats: float32 [D, h, w].
    """

    def __init__(self, kernels: np.ndarray, feats: np.ndarray, head: HeadConfig) -> None:
        self.size = feats.shape[1:]
        self.kernels = kernels
        self.feats = feats
        self.head = head
        self._parts: dict[int, np.ndarray] = {}  # probabilities in the window of each cell, once they are computed

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        windowed = self.probabilities(cells)
        if loops := numba_loops(len(cells)):
            bits = np.zeros((len(cells), self.size[0], -(-self.size[1] // 8)), np.uint8)
            areas, sums = np.empty((2, len(cells)), np.float32)
            loops.sum_windows(windowed.parts, windowed.tops, windowed.lefts, threshold, bits, areas, sums)
            return Inside(bits.reshape(len(cells), -1), areas, sums)
        inside = windowed.parts > threshold
        sums = sums_inside(windowed.parts.reshape(len(cells), -1), inside.reshape(len(cells), -1))
        return Inside(replace(windowed, parts=inside).packed(), *sums)

    def probabilities(self, cells: np.ndarray) -> WindowedMaps:
        new = np.array([cell for cell in cells.tolist() if cell not in self._parts], np.int64)
        places = windows_of(new, self.head, self.size)
        new = new[np.lexsort((places.lefts, places.tops))]  # the windows of a group are near each other
        loops = numba_loops(len(new))
        groups = np.array_split(new, CPU_THREADS) if loops else _groups(new)
        compute = partial(self._compute_compiled, loops) if loops else self._compute
        for group, parts in zip(groups, parallel_map(compute, groups)):
            self._parts.update(zip(group.tolist(), parts))
        windows = windows_of(cells, self.head, self.size)
        parts = np.stack([self._parts[cell] for cell in cells.tolist()])
        return WindowedMaps(self.size, windows.tops, windows.lefts, parts)

    def _compute(self, cells: np.ndarray) -> np.ndarray:
        """Return the probabilities in the windows of cells, float32 [m, height, width].

        The rectangle that contains all windows is multiplied, row by row of the features, which takes less time than to
        copy each window.
        """
        tops, lefts, y, x = windows_of(cells, self.head, self.size)
        channels, height, width = len(self.feats), y.shape[1], x.shape[1]
        first, left_most = tops.min(), lefts.min()
        rows = self.feats[:, first : tops.max() + height, left_most : lefts.max() + width].transpose(1, 0, 2)
        kernels = self.kernels[cells]
        products = np.moveaxis(kernels[:, :channels] @ rows, 1, 0)  # of each cell, [m, rows, columns]
        logits = polynomial(kernels[:, channels:], y, x)
        for mask, product, top, left in zip(logits, products, (tops - first).tolist(), (lefts - left_most).tolist()):
            mask += product[top : top + height, left : left + width]
        return sigmoid(logits)

    def _compute_compiled(self, loops: ModuleType, cells: np.ndarray) -> np.ndarray:
        """Return the result of `_compute` by `numba_loops.window_logits`; `tops` ascending."""
        tops, lefts, y, x = windows_of(cells, self.head, self.size)
        logits = np.empty((len(cells), y.shape[1], x.shape[1]), np.float32)
        if len(cells):
            loops.window_logits(self.kernels[cells], self.feats, tops, lefts, y, x, logits)
        return sigmoid(logits)


def _groups(cells: np.ndarray) -> list[np.ndarray]:
    return [cells[start : start + WINDOWS_AT_ONCE] for start in range(0, len(cells), WINDOWS_AT_ONCE)]
