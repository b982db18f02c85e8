"""The masks that cells predict, in the three ways of the SOLO family; computed for the cells that are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Callable, NamedTuple, Protocol

import numpy as np

from model.arrays import Array, joined, library_of, like, packed, rows_of, sigmoid, sorted_back, tiles_of
from model.bilinear import resized_maps

TILE_ON_CPU = 1 << 19  # numbers computed together at most, so that what is made of them stays in a processor's cache
NARROWEST = 128  # pixels of a tile, however many masks there are: products of fewer are slow
TOGETHER = 16  # enlarged masks computed together, for the same reason
SAMPLED = 16  # pixels of which one is looked at to tell how certain a mask can be at most
RISK = 1e-9  # how probable it is that a mask is more certain than that

Parallel = Callable[..., Iterable]  # `map`, or that of a pool of threads


class Inside(NamedTuple):
    """What is inside of m masks."""

    masks: Array  # pixels whose probability is above the threshold: bool [m, pixels], `packed`
    areas: Array  # float32 [m], pixels inside
    sums: Array  # float32 [m], of the probabilities inside


class CellMasks(Protocol):
    """The masks of one picture's cells, which are counted through all levels, row by row; m is 1 or more."""

    size: tuple[int, int]  # height and width of a mask: a quarter of the padded input's

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        """cells: int64 [m]; threshold: a probability."""

    def likely_certainty(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> np.ndarray:
        """float32 [m, 2], what the mean probability inside of each mask is about, and what it is at most.

        Arguments as in `inside`.
        """
        return np.ones((len(cells), 2), np.float32)  # to know more would take as long as the mask

    def soft(self, cells: np.ndarray, parallel: Parallel = map) -> Array:
        """float32 [m, *size], probabilities; cells: int64 [m]."""


class KernelMasks(CellMasks):
    """SOLOv2's: a 1x1 convolution of the same features with each cell's kernel, which is a matrix product.

    kernels: [cells, D]; feats: [D, h, w].
    """

    def __init__(self, kernels: Array, feats: Array) -> None:
        self.size = tuple(feats.shape[1:])
        self.kernels = kernels
        self.feats = _flat(feats)

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        return self._inside(self.feats, cells, threshold, parallel)

    def likely_certainty(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> np.ndarray:
        if not isinstance(self.feats, np.ndarray):  # a device computes the whole in the time of a look
            return CellMasks.likely_certainty(self, cells, threshold, parallel)
        sample = self.feats.take(_sample_of(self.feats.shape[1]), axis=1)
        return _means_and_bounds(self._inside(sample, cells, threshold, parallel), threshold)

    def _inside(self, feats: Array, cells: np.ndarray, threshold: float, parallel: Parallel) -> Inside:
        halves = self._kernels(cells) * 0.5
        return _over_tiles(len(cells), feats, lambda tile: _by_logits(halves @ tile, threshold), parallel)

    def soft(self, cells: np.ndarray, parallel: Parallel = map) -> Array:
        kernels = self._kernels(cells)
        soft = _filled(len(cells), self.feats, lambda tile: sigmoid(kernels @ tile), parallel)
        return soft.reshape([-1, *self.size])

    def _kernels(self, cells: np.ndarray) -> Array:
        return rows_of(self.kernels, like(cells, self.kernels))


class EnlargedMasks(CellMasks):
    """Other masks, whose probabilities are resized."""

    def __init__(self, masks: CellMasks, size: tuple[int, int]) -> None:
        self.size = size
        self.masks = masks

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        soft = self.masks.soft(cells, parallel)

        def of_group(start: int) -> Inside:
            group = _flat(_enlarged(soft[start : start + TOGETHER], self.size))
            return _over_tiles(len(group), group, lambda tile: _by_probabilities(tile, threshold))

        return _joined(parallel(of_group, range(0, len(cells), TOGETHER)))

    def soft(self, cells: np.ndarray, parallel: Parallel = map) -> Array:
        return _enlarged(self.masks.soft(cells, parallel), self.size, parallel)


class LevelMasks(CellMasks):
    """SOLO's: each level has its own features; the masks of levels with smaller ones than the first's are enlarged.

    kernels: [cells, D]; feats: [D, h, w] of each level; grids: cells of a side of each level.
    """

    def __init__(self, kernels: Array, feats: Sequence[Array], grids: Sequence[int]) -> None:
        levels = [KernelMasks(kernels, of_level) for of_level in feats]
        self.size = levels[0].size
        self.levels = [masks if masks.size == self.size else EnlargedMasks(masks, self.size) for masks in levels]
        self.level_of = np.repeat(np.arange(len(grids)), np.square(grids))

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        order, split = self._by_level(cells)
        found = _joined(masks.inside(own, threshold, parallel) for masks, own in split)
        back = np.argsort(order)
        return Inside(rows_of(found.masks, like(back, found.masks)), found.areas[back], found.sums[back])

    def likely_certainty(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> np.ndarray:
        order, split = self._by_level(cells)
        return sorted_back((masks.likely_certainty(own, threshold, parallel) for masks, own in split), order)

    def soft(self, cells: np.ndarray, parallel: Parallel = map) -> Array:
        order, split = self._by_level(cells)
        return sorted_back((masks.soft(own, parallel) for masks, own in split), order)

    def _by_level(self, cells: np.ndarray) -> tuple[np.ndarray, list[tuple[CellMasks, np.ndarray]]]:
        """The order that sorts cells by their level, and those of each level that has any."""
        levels = self.level_of[cells]
        present = np.unique(levels).tolist()
        return np.argsort(levels, kind="stable"), [(self.levels[level], cells[levels == level]) for level in present]


class ProductMasks(CellMasks):
    """Decoupled SOLO's: the product of the probabilities of a cell's column and row.

    logits: [2 S, h, w] of each level, those of columns before those of rows; S is the level's item of `grids`.
    """

    def __init__(self, logits: Sequence[Array], grids: Sequence[int]) -> None:
        self.size = tuple(logits[0].shape[1:])
        self.logits = logits
        self.columns, self.rows = maps_of_cells(grids)
        self._maps = None  # not before they are needed, and once

    def inside(self, cells: np.ndarray, threshold: float, parallel: Parallel = map) -> Inside:
        maps, product = self._product_of(cells, parallel)
        return _over_tiles(len(cells), maps, lambda tile: _by_probabilities(product(tile), threshold), parallel)

    def soft(self, cells: np.ndarray, parallel: Parallel = map) -> Array:
        maps, product = self._product_of(cells, parallel)
        soft = _filled(len(cells), maps, product, parallel)
        return soft.reshape([-1, *self.size])

    def _product_of(self, cells: np.ndarray, parallel: Parallel) -> tuple[Array, Callable[[Array], Array]]:
        """The probabilities of all maps, [maps, pixels], and what makes those of the cells of a tile of them."""
        if self._maps is None:
            self._maps = joined([_flat(_enlarged(sigmoid(level), self.size, parallel)) for level in self.logits])
        columns, rows = like(self.columns[cells], self._maps), like(self.rows[cells], self._maps)

        def product(tile: Array) -> Array:
            masks = rows_of(tile, columns)
            masks *= rows_of(tile, rows)
            return masks

        return self._maps, product


def maps_of_cells(grids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The two maps of each cell among all levels' 2 S maps: that of its column and that of its row, int64 [cells]."""
    columns, rows, first = [], [], 0
    for grid in grids:
        row, column = np.divmod(np.arange(grid * grid), grid)
        columns.append(first + column)
        rows.append(first + grid + row)
        first += 2 * grid
    return np.concatenate(columns), np.concatenate(rows)


def _enlarged(maps: Array, size: tuple[int, int], parallel: Parallel = map) -> Array:
    """[n, h, w] to [n, *size]."""
    if tuple(maps.shape[1:]) == size:
        return maps
    if isinstance(maps, np.ndarray):
        whole = np.empty((len(maps), *size), np.float32)
        groups = [slice(start, start + TOGETHER) for start in range(0, len(maps), TOGETHER)]
        list(parallel(lambda group: resized_maps(maps[group], size, out=whole[group]), groups))
        return whole
    from model.resize import resize_bilinear  # needs Paddle, which is there if its tensors are

    return resize_bilinear(maps.unsqueeze(0), size).squeeze(0)


def _flat(maps: Array) -> Array:
    """[n, h, w] to [n, pixels]."""
    return maps.reshape([maps.shape[0], maps.shape[1] * maps.shape[2]])


@lru_cache(maxsize=16)
def _sample_of(pixels: int) -> np.ndarray:
    """Indices of some of them by lot, always the same ones, in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(pixels)[: math.ceil(pixels / SAMPLED)])


def _means_and_bounds(sample: Inside, threshold: float) -> np.ndarray:
    """The mean probability inside of each mask by a sample, and what it is in the whole at most, but for RISK.

    By the first inequality of Hoeffding (1963, also for a sample without replacement): probabilities inside lie between
    the threshold and 1, and the nearer their mean is to 1, the less they can vary. float32 [m, 2].
    """
    areas = np.maximum(sample.areas, 1)
    means = np.where(sample.areas > 0, np.minimum(sample.sums / areas, 1), 1)
    shares = np.clip((means - threshold) / (1 - threshold), 0.5, 1)  # rounding may leave it above 1
    margins = (1 - threshold) * np.sqrt(2 * shares * (1 - shares) * -math.log(RISK) / areas)
    return np.stack([means, np.minimum(means + margins, 1)], axis=1).astype(np.float32)


def _over_tiles(count: int, maps: Array, measured: Callable[[Array], Inside], parallel: Parallel = map) -> Inside:
    """What is inside of `count` masks, from tiles of the maps that they are made of."""
    masks, *numbers = zip(*parallel(measured, _tiles_for(count, maps)))
    areas, sums = (np.sum([np.asarray(part) for part in of_tiles], axis=0) for of_tiles in numbers)
    return Inside(joined(masks, axis=1), areas, sums)


def _filled(count: int, maps: Array, of_tile: Callable[[Array], Array], parallel: Parallel) -> Array:
    """float32 [count, pixels], put together of what comes for each tile of the maps."""
    tiles = _tiles_for(count, maps)
    if len(tiles) == 1:
        return of_tile(tiles[0])
    stops = np.cumsum([tile.shape[1] for tile in tiles])
    whole = np.empty((count, stops[-1]), np.float32)

    def fill(stop: int, tile: Array) -> None:
        whole[:, stop - tile.shape[1] : stop] = of_tile(tile)

    list(parallel(fill, stops, tiles))
    return whole


def _tiles_for(count: int, maps: Array) -> list[Array]:
    """Some of the pixels of all maps, [n, pixels], or on a device all of them, to make `count` masks of."""
    return tiles_of(maps, max(TILE_ON_CPU // count, NARROWEST))


def _joined(groups: Iterable[Inside]) -> Inside:
    masks, areas, sums = zip(*groups)
    return Inside(joined(masks), np.concatenate(areas), np.concatenate(sums))


def _by_logits(halves: Array, threshold: float) -> Inside:
    """halves: [m, pixels], half of each logit.

    The sums are of probabilities, p = (1 + tanh(x / 2)) / 2 of a logit x; outside, x is taken to be 0, whose tanh is 0.
    """
    inside = halves > math.log(threshold / (1 - threshold)) / 2
    ones = inside.astype("float32")
    areas = _sums(ones)
    halves *= ones  # in place: what stays in the cache is half of the time
    return Inside(packed(inside), areas, (areas + _sums(library_of(halves).tanh(halves))) / 2)


def _by_probabilities(soft: Array, threshold: float) -> Inside:
    """soft: [m, pixels]."""
    inside = soft > threshold
    ones = inside.astype("float32")
    return Inside(packed(inside), _sums(ones), _sums(soft * ones))


def _sums(values: Array) -> Array:
    """Of each row, as a product: reductions take four times as long on a CPU."""
    return values @ library_of(values).ones([values.shape[1]], dtype="float32")
