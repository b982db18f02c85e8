"""Masks of chosen cells for the three kinds of head, in numpy: the fast version of `plain_masks.py`.

Masks are computed in tiles of some pixels of all of them, so that intermediate values stay in the processor's cache,
and tiles are shared among threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Callable, NamedTuple, Protocol

import numpy as np

from model.bilinear import resize_maps
from model.decode.cells import axis_maps, cell_levels
from model.decode.loops import numba_loops
from model.decode.threads import parallel_map
from model.decode.windows import WindowedMaps
from model.startup import CPU_THREADS

# Values in a tile at most. Memory for larger tiles is new each time, which costs as much as the matrix product.
TILE_SIZE = 1 << 18
NARROWEST_TILE = 128  # pixels, however many masks there are: matrix products of fewer columns are slow
ENLARGED_AT_ONCE = 16  # masks, for the cache as well
SAMPLING = 64  # one pixel in so many is sampled to bound the maskness
RISK = 1e-9  # probability that a mask exceeds its bound


class Inside(NamedTuple):
    """The pixels inside m masks, and sums over them."""

    # uint8 [m, k], a bit per pixel, 1 where the probability exceeds the threshold; in windows each row of a mask begins
    # with a new byte.
    bits: np.ndarray
    areas: np.ndarray  # float32 [m], pixels inside
    sums: np.ndarray  # float32 [m], of the probabilities inside


class CellMasks(Protocol):
    """The masks of one picture's cells, counted through all levels; m is 1 or more."""

    size: tuple[int, int]  # height and width of a mask

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        """Return the pixels of the masks of cells, int64 [m], whose probability exceeds a threshold."""

    def estimate_maskness(self, cells: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Estimate the mean probability inside each mask, float32 [m], and bound it from above, float32 [m].

        Arguments as in `inside`. By default both are 1, so that every mask is computed.
        """
        return np.ones(len(cells), np.float32), np.ones(len(cells), np.float32)

    def probabilities(self, cells: np.ndarray) -> np.ndarray | WindowedMaps:
        """Return the probabilities of the masks of cells, int64 [m]: float32 [m, *size], or as windows of them."""


class KernelMasks(CellMasks):
    """SOLOv2: a 1x1 convolution of the mask features with each cell's kernel, which is a matrix product.

    kernels: float32 [cells, D]; feats: float32 [D, h, w].
    """

    def __init__(self, kernels: np.ndarray, feats: np.ndarray) -> None:
        self.size = feats.shape[1:]
        self.kernels = kernels
        self.feats = _flatten(feats)

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        return self._inside(self.feats, cells, threshold)

    def estimate_maskness(self, cells: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        sample = self.feats.take(_sampled_pixels(self.feats.shape[1]), axis=1)
        return _estimate(self._inside(sample, cells, threshold), threshold)

    def _inside(self, feats: np.ndarray, cells: np.ndarray, threshold: float) -> Inside:
        half_logits = self.kernels[cells] * 0.5
        return _sum_tiles(len(cells), feats, lambda tile: _inside_logits(half_logits @ tile, threshold), parallel_map)

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        kernels = self.kernels[cells]
        return _fill_tiles(len(cells), self.feats, lambda tile: sigmoid(kernels @ tile)).reshape(-1, *self.size)


class EnlargedMasks(CellMasks):
    """Other masks, whose probabilities are resized."""

    def __init__(self, masks: CellMasks, size: tuple[int, int]) -> None:
        self.size = size
        self.masks = masks

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        small = self.masks.probabilities(cells)

        def inside_group(start: int) -> Inside:
            group = _flatten(resize_maps(small[start : start + ENLARGED_AT_ONCE], self.size))
            return _sum_tiles(len(group), group, lambda tile: _inside_probabilities(tile, threshold), map)

        return _concat(parallel_map(inside_group, range(0, len(cells), ENLARGED_AT_ONCE)))

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        return _enlarge(self.masks.probabilities(cells), self.size)


class LevelMasks(CellMasks):
    """SOLO: each level has its own mask features; masks of levels with smaller ones than the first are enlarged.

    kernels: float32 [cells, D]; feats: float32 [D, h, w] of each level; grids: cells per side of each level.
    """

    def __init__(self, kernels: np.ndarray, feats: Sequence[np.ndarray], grids: Sequence[int]) -> None:
        levels = [KernelMasks(kernels, level) for level in feats]
        self.size = levels[0].size
        self.levels = [masks if masks.size == self.size else EnlargedMasks(masks, self.size) for masks in levels]
        self.level_of = cell_levels(grids)

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        order, groups = self._by_level(cells)
        sorted_cells = _concat(masks.inside(own, threshold) for masks, own in groups)
        back = np.argsort(order)
        return Inside(*(part[back] for part in sorted_cells))

    def estimate_maskness(self, cells: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        order, groups = self._by_level(cells)
        back = np.argsort(order)
        estimates, bounds = zip(*(masks.estimate_maskness(own, threshold) for masks, own in groups))
        return np.concatenate(estimates)[back], np.concatenate(bounds)[back]

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        order, groups = self._by_level(cells)
        masks = np.empty((len(cells), *self.size), np.float32)
        start = 0
        for level, own in groups:  # a level's masks are copied and freed before the next level's are computed
            masks[order[start : start + len(own)]] = level.probabilities(own)
            start += len(own)
        return masks

    def _by_level(self, cells: np.ndarray) -> tuple[np.ndarray, list[tuple[CellMasks, np.ndarray]]]:
        """Return the order that sorts cells by level, and for each level that has any its masks and cells."""
        levels = self.level_of[cells]
        present = np.unique(levels).tolist()
        return np.argsort(levels, kind="stable"), [(self.levels[level], cells[levels == level]) for level in present]


class ProductMasks(CellMasks):
    """Decoupled SOLO: the product of the probabilities of a cell's column and row.

    logits: float32 [2 S, h, w] of each level, first those of the S columns, then of the S rows; grids: S of each level.
    """

    def __init__(self, logits: Sequence[np.ndarray], grids: Sequence[int]) -> None:
        self.size = logits[0].shape[1:]
        self.logits = logits
        self.columns, self.rows = axis_maps(grids)
        self._maps: np.ndarray | None = None  # probabilities [maps, pixels], computed when they are first needed

    def inside(self, cells: np.ndarray, threshold: float) -> Inside:
        maps, product = self._product_of(cells)
        return _sum_tiles(len(cells), maps, lambda tile: _inside_probabilities(product(tile), threshold), parallel_map)

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        maps, product = self._product_of(cells)
        return _fill_tiles(len(cells), maps, product).reshape(-1, *self.size)

    def _product_of(self, cells: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return the maps, [maps, pixels], and a function from a tile of them to the cells' masks there."""
        if self._maps is None:
            self._maps = np.concatenate([_flatten(_enlarge(sigmoid(level), self.size)) for level in self.logits])
        columns, rows = self.columns[cells], self.rows[cells]

        def product(tile: np.ndarray) -> np.ndarray:
            masks = tile[columns]
            masks *= tile[rows]
            return masks

        return self._maps, product


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float32, as (1 + tanh(x / 2)) / 2."""
    values = logits * 0.5
    np.tanh(values, out=values)  # in place like the rest: new memory takes longer than the arithmetic
    values *= 0.5
    values += 0.5
    return values


def _enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize [n, h, w] to [n, *size]."""
    if maps.shape[1:] == size:
        return maps
    enlarged = np.empty((len(maps), *size), np.float32)
    groups = [slice(start, start + ENLARGED_AT_ONCE) for start in range(0, len(maps), ENLARGED_AT_ONCE)]
    list(parallel_map(lambda group: resize_maps(maps[group], size, out=enlarged[group]), groups))
    return enlarged


def _flatten(maps: np.ndarray) -> np.ndarray:
    """Reshape [n, h, w] to [n, pixels]."""
    return maps.reshape(maps.shape[0], maps.shape[1] * maps.shape[2])


@lru_cache(maxsize=16)
def _sampled_pixels(pixels: int) -> np.ndarray:
    """Return indices of randomly chosen pixels in ascending order, always the same."""
    return np.sort(np.random.default_rng(0).permutation(pixels)[: math.ceil(pixels / SAMPLING)])


def _estimate(sample: Inside, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the mean probability inside each mask from a sample of its pixels, and bound it, with RISK to fail.

    By the first inequality of Hoeffding (1963, also for samples without replacement): probabilities inside lie between
    the threshold and 1, and the nearer their mean is to 1, the less they can vary. The variance of the sample's mean
    may stand in for that of the true mean: with `shares` of at least 0.5 it is the larger one if the true mean is
    higher. Returns float32 [m] twice.
    """
    areas = np.maximum(sample.areas, 1)
    means = np.where(sample.areas > 0, np.minimum(sample.sums / areas, 1), 1)
    shares = np.clip((means - threshold) / (1 - threshold), 0.5, 1)  # rounding may leave it above 1
    margins = (1 - threshold) * np.sqrt(2 * shares * (1 - shares) * -math.log(RISK) / areas)
    return means.astype(np.float32), np.minimum(means + margins, 1).astype(np.float32)


def _sum_tiles(
    count: int, maps: np.ndarray, inside: Callable[[np.ndarray], Inside], map_tiles: Callable[..., Iterable]
) -> Inside:
    """Compute `Inside` of `count` masks tile by tile. maps: [n, pixels], the maps that the masks are made of."""
    bits, areas, sums = zip(*map_tiles(inside, tiles_of(maps, _tile_width(count))))
    return Inside(np.concatenate(bits, axis=1), np.sum(areas, axis=0), np.sum(sums, axis=0))


def _fill_tiles(count: int, maps: np.ndarray, masks_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Compute `count` masks, float32 [count, pixels], tile by tile. maps: [n, pixels], as in `_sum_tiles`."""
    tiles = tiles_of(maps, _tile_width(count))
    if len(tiles) == 1:
        return masks_of(tiles[0])
    stops = np.cumsum([tile.shape[1] for tile in tiles])
    masks = np.empty((count, stops[-1]), np.float32)

    def fill(stop: int, tile: np.ndarray) -> None:
        masks[:, stop - tile.shape[1] : stop] = masks_of(tile)

    list(parallel_map(fill, stops, tiles))
    return masks


def _tile_width(count: int) -> int:
    return max(TILE_SIZE // count, NARROWEST_TILE)


def tiles_of(maps: np.ndarray, width: int) -> list[np.ndarray]:
    """Split [n, pixels] into pieces of about `width` columns, equal ones and the same number for each thread.

    Each piece except the last has a multiple of 8 columns, so that packed bits of the pieces can be concatenated.
    """
    columns = maps.shape[1]
    pieces = CPU_THREADS * math.ceil(columns / (width * CPU_THREADS))
    cuts = np.unique(np.arange(1, pieces) * columns // pieces // 8 * 8)
    return np.split(maps, cuts[cuts > 0], axis=1)


def _concat(groups: Iterable[Inside]) -> Inside:
    return Inside(*map(np.concatenate, zip(*groups)))


def _inside_logits(half_logits: np.ndarray, threshold: float) -> Inside:
    """Sum the probabilities inside m masks, p = (1 + tanh(x / 2)) / 2 of a logit x.

    half_logits: float32 [m, pixels], x / 2; changed in place.
    """
    limit = np.float32(math.log(threshold / (1 - threshold)) / 2)
    inside = half_logits > limit
    if loops := numba_loops(len(half_logits)):
        areas, sums = np.empty((2, len(half_logits)), np.float32)
        loops.sum_inside(half_logits, limit, areas, sums)
        return Inside(np.packbits(inside, axis=1), areas, sums)
    ones = inside.astype(np.float32)
    areas = _row_sums(ones)
    np.tanh(half_logits, out=half_logits)  # in place: new memory takes as long as the arithmetic
    half_logits *= ones
    return Inside(np.packbits(inside, axis=1), areas, (areas + _row_sums(half_logits)) / 2)


def _inside_probabilities(probabilities: np.ndarray, threshold: float) -> Inside:
    """Sum the probabilities inside m masks. probabilities: float32 [m, pixels]."""
    inside = probabilities > threshold
    return Inside(np.packbits(inside, axis=1), *sums_inside(probabilities, inside))


def sums_inside(probabilities: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return areas and sums of `Inside`, float32 [m]; probabilities, inside: float32 and bool [m, pixels]."""
    ones = inside.astype(np.float32)
    return _row_sums(ones), _row_sums(probabilities * ones)


def _row_sums(values: np.ndarray) -> np.ndarray:
    """Sum each row by a matrix product: numpy's own sum takes four times as long."""
    return values @ np.ones(values.shape[1], np.float32)
