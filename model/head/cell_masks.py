"""The masks that cells predict, in the three ways of the SOLO family; computed for the cells that are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Callable, NamedTuple, Protocol

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from model.resize import resize_bilinear

TILE_ON_CPU = 2048  # pixels computed together, so that what is made of them stays in a processor's cache
TOGETHER = 16  # enlarged masks computed together, for the same reason
HUGE = 3e38  # makes 1 or more of each float above 0

Parallel = Callable[..., Iterable]  # `map`, or that of a pool of threads


class Inside(NamedTuple):
    """What is inside of m masks."""

    masks: Tensor  # uint8 [m, pixels], 1 where the probability is above the threshold
    areas: np.ndarray  # float32 [m], pixels inside
    sums: np.ndarray  # float32 [m], of the probabilities inside


class CellMasks(Protocol):
    """The masks of one picture's cells, which are counted through all levels, row by row; m is 1 or more."""

    size: tuple[int, int]  # height and width of a mask: a quarter of the padded input's

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        """cells: int64 [m]; threshold: a probability."""

    def soft(self, cells: np.ndarray) -> Tensor:
        """float32 [m, *size], probabilities; cells: int64 [m]."""


class KernelMasks:
    """SOLOv2's: a 1x1 convolution of the same features with each cell's kernel, which is a matrix product.

    kernels: [cells, D]; feats: [D, h, w].
    """

    def __init__(self, kernels: Tensor, feats: Tensor) -> None:
        self.size = tuple(feats.shape[1:])
        self.kernels = kernels
        self.feats = feats.flatten(start_axis=1)

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        halves = self._kernels(cells) * 0.5
        return _of_all_pixels(parallel(lambda tile: _inside_by_logits(halves @ tile, threshold), self._tiles))

    @cached_property
    def _tiles(self) -> list[Tensor]:
        return _tiles(self.feats)

    def soft(self, cells: np.ndarray) -> Tensor:
        return F.sigmoid(self._kernels(cells) @ self.feats).reshape([-1, *self.size])

    def _kernels(self, cells: np.ndarray) -> Tensor:
        return self.kernels.gather(paddle.to_tensor(cells))


class EnlargedMasks:
    """Other masks, whose probabilities are resized."""

    def __init__(self, masks: CellMasks, size: tuple[int, int]) -> None:
        self.size = size
        self.masks = masks

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        groups = [cells[start : start + TOGETHER] for start in range(0, len(cells), TOGETHER)]
        return _of_all_cells(
            parallel(lambda group: _inside_by_probabilities(self.soft(group).flatten(1), threshold), groups)
        )

    def soft(self, cells: np.ndarray) -> Tensor:
        return _enlarged(self.masks.soft(cells), self.size)


class LevelMasks:
    """SOLO's: each level has its own features; the masks of levels with smaller ones than the first's are enlarged.

    kernels: [cells, D]; feats: [D, h, w] of each level; grids: cells of a side of each level.
    """

    def __init__(self, kernels: Tensor, feats: Sequence[Tensor], grids: Sequence[int]) -> None:
        levels = [KernelMasks(kernels, of_level) for of_level in feats]
        self.size = levels[0].size
        self.levels = [masks if masks.size == self.size else EnlargedMasks(masks, self.size) for masks in levels]
        self.level_of = np.repeat(np.arange(len(grids)), np.square(grids))

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        order, split = self._by_level(cells)
        found = _of_all_cells(masks.inside(own, threshold, parallel) for masks, own in split)
        back = np.argsort(order)
        return Inside(found.masks.gather(paddle.to_tensor(back)), found.areas[back], found.sums[back])

    def soft(self, cells: np.ndarray) -> Tensor:
        order, split = self._by_level(cells)
        found = paddle.concat([masks.soft(own) for masks, own in split])
        return found.gather(paddle.to_tensor(np.argsort(order)))

    def _by_level(self, cells: np.ndarray) -> tuple[np.ndarray, list[tuple[CellMasks, np.ndarray]]]:
        """The order that sorts cells by their level, and those of each level that has any."""
        levels = self.level_of[cells]
        present = np.unique(levels).tolist()
        return np.argsort(levels, kind="stable"), [(self.levels[level], cells[levels == level]) for level in present]


class ProductMasks:
    """Decoupled SOLO's: the product of the probabilities of a cell's column and row.

    logits: [2 S, h, w] of each level, those of columns before those of rows; S is the level's item of `grids`.
    """

    def __init__(self, logits: Sequence[Tensor], grids: Sequence[int]) -> None:
        self.size = tuple(logits[0].shape[1:])
        self.logits = logits
        columns, rows, first = [], [], 0
        for grid in grids:
            row, column = np.divmod(np.arange(grid * grid), grid)
            columns.append(first + column)
            rows.append(first + grid + row)
            first += 2 * grid
        self.columns, self.rows = np.concatenate(columns), np.concatenate(rows)  # the two maps of each cell

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        columns, rows = self._places(cells)
        return _of_all_pixels(
            parallel(
                lambda tile: _inside_by_probabilities(tile.gather(columns) * tile.gather(rows), threshold), self._tiles
            )
        )

    def soft(self, cells: np.ndarray) -> Tensor:
        columns, rows = self._places(cells)
        return (self._maps.gather(columns) * self._maps.gather(rows)).reshape([-1, *self.size])

    def _places(self, cells: np.ndarray) -> tuple[Tensor, Tensor]:
        return paddle.to_tensor(self.columns[cells]), paddle.to_tensor(self.rows[cells])

    @cached_property
    def _maps(self) -> Tensor:
        """[maps, pixels], probabilities."""
        levels = [F.sigmoid(level) for level in self.logits]
        return paddle.concat([_enlarged(level, self.size).flatten(start_axis=1) for level in levels])

    @cached_property
    def _tiles(self) -> list[Tensor]:
        return _tiles(self._maps)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[n, h, w] to [n, *size]."""
    return maps if tuple(maps.shape[1:]) == size else resize_bilinear(maps.unsqueeze(0), size).squeeze(0)


def _tiles(maps: Tensor) -> list[Tensor]:
    """[n, pixels] in pieces of a few pixels each on a CPU, whole elsewhere."""
    width = TILE_ON_CPU if maps.place.is_cpu_place() else maps.shape[1]
    return [maps[:, start : start + width] for start in range(0, maps.shape[1], width)]


def _of_all_pixels(tiles: Iterable[Inside]) -> Inside:
    masks, areas, sums = zip(*tiles)
    return Inside(paddle.concat(masks, axis=1), np.sum(areas, axis=0), np.sum(sums, axis=0))


def _of_all_cells(groups: Iterable[Inside]) -> Inside:
    masks, areas, sums = zip(*groups)
    return Inside(paddle.concat(masks), np.concatenate(areas), np.concatenate(sums))


def _inside_by_logits(halves: Tensor, threshold: float) -> Inside:
    """halves: [m, pixels], half of each logit.

    The sums are of probabilities, p = (1 + tanh(x / 2)) / 2 of a logit x. Everything is made from how far x / 2 is
    above the threshold, 0 where it is not, in few passes over the pixels.
    """
    cut = math.log(threshold / (1 - threshold)) / 2  # of x / 2
    above = F.relu(halves - cut if cut else halves)
    inside, areas = _counted(above)
    tanhs = _sums(paddle.tanh(above + cut if cut else above)) - (halves.shape[1] - areas) * math.tanh(cut)
    return Inside(inside, areas, (areas + tanhs) / 2)


def _inside_by_probabilities(soft: Tensor, threshold: float) -> Inside:
    """soft: [m, pixels]."""
    above = F.relu(soft - threshold)
    inside, areas = _counted(above)
    return Inside(inside, areas, _sums(above) + areas * np.float32(threshold))


def _counted(above: Tensor) -> tuple[Tensor, np.ndarray]:
    """Where something is above 0, uint8 [m, pixels], and in how many places of each row."""
    inside = paddle.clip(above * HUGE, max=1.0)
    return inside.astype("uint8"), _sums(inside)


def _sums(rows: Tensor) -> np.ndarray:
    """Of each row, as a product: Paddle's reduction takes four times as long on a CPU."""
    return (rows @ paddle.ones([rows.shape[1]])).numpy()
