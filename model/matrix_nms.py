"""Matrix NMS (Wang et al. 2020, SOLOv2, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

import numpy as np

from config.base import NMSConfig
from model.arrays import Array, like, products_of_rows, rows_of, tiles_of

TILE_ON_CPU = 8192  # pixels compared together at most, so that they stay in a processor's cache as float32


def matrix_nms(
    scores: np.ndarray,
    classes: np.ndarray,
    masks: Array,
    areas: np.ndarray,
    config: NMSConfig,
    parallel: Callable[..., Iterable] = map,
) -> np.ndarray:
    """Lower the score of each candidate by the overlap of its mask with better ones of its class.

    The n candidates stand in descending order of score. scores: float32 [n]; classes: int64 [n]; masks: uint8
    [n, pixels], 1 inside; areas: float32 [n], pixels inside; parallel: `map`, or that of a pool of threads. Returns the
    lowered scores, float32 [n].

    A candidate meets only its own class here, which gives what the original program computes over all pairs: pairs of
    different classes have an overlap of 0 and never hold the smallest factor.
    """
    decay = np.ones_like(scores)
    present, counts = np.unique(classes, return_counts=True)
    groups = [np.flatnonzero(classes == one) for one in present[counts > 1]]
    for members, intersection in zip(groups, _intersections(masks, groups, parallel)):
        decay[members] = _decay_within_class(intersection, areas[members], config)
    return scores * decay


def _intersections(
    masks: Array, groups: Sequence[np.ndarray], parallel: Callable[..., Iterable]
) -> Iterable[np.ndarray]:
    """Pixels that each two masks of a group share, float32 [n, n]; masks: uint8 [m, pixels]; groups: int64 [n]."""
    places = [like(members, masks) for members in groups]

    def within(tile: Array) -> list[np.ndarray]:
        return [np.asarray(products_of_rows(rows_of(tile, rows).astype("float32"))) for rows in places]

    # Shared by pixels among threads, because one class may have most of the masks.
    return (sum(parts) for parts in zip(*parallel(within, tiles_of(masks, TILE_ON_CPU))))


def _decay_within_class(intersection: np.ndarray, areas: np.ndarray, config: NMSConfig) -> np.ndarray:
    union = areas[None] + areas[:, None] - intersection
    iou = np.triu(intersection / union, k=1)  # [i, j]: j is overlapped by the better i
    compensation = iou.max(axis=0)[:, None]  # how much i is overlapped itself
    if config.kernel == "gaussian":
        return np.exp(config.sigma * (compensation**2 - iou**2).min(axis=0))
    # A mask that equals a better one has no say: the better one says the same, without a division by 0.
    free = 1 - compensation
    return np.where(free > 0, (1 - iou) / np.maximum(free, 1e-12), 1).min(axis=0)
