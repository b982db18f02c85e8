"""Matrix NMS (Wang et al. 2020, SOLOv2, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

import numpy as np

from config.base import NMSConfig
from model.arrays import Array, like, products_of_rows, rows_of, tiles_of

TILE_ON_CPU = 4096  # pixels compared together at most, so that they stay in a processor's cache as float32
TOGETHER = 48  # masks of several classes in one product: one of a few rows takes as long as of some more


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

    A candidate meets only its own class, which gives what the original program computes over all pairs: pairs of
    different classes have an overlap of 0 and never hold the smallest factor.
    """
    decay = np.ones_like(scores)
    blocks = _blocks_of_classes(classes)
    for members, intersection in zip(blocks, _intersections(masks, blocks, parallel)):
        shared = intersection * (classes[members] == classes[members, None])
        decay[members] = _decay(shared, areas[members], config)
    return scores * decay


def _blocks_of_classes(classes: np.ndarray) -> list[np.ndarray]:
    """All masks as int64 [m], whole classes together: at most TOGETHER masks, but for a class that has more alone."""
    order = np.argsort(classes, kind="stable")  # in a class in descending order of score
    cuts, before = [0], 0
    for end in np.unique(classes, return_counts=True)[1].cumsum():
        if end - cuts[-1] > TOGETHER and before > cuts[-1]:
            cuts.append(before)
        before = end
    return [order[start:end] for start, end in zip(cuts, [*cuts[1:], before]) if end > start]


def _intersections(
    masks: Array, blocks: Sequence[np.ndarray], parallel: Callable[..., Iterable]
) -> Iterable[np.ndarray]:
    """Pixels that each two masks of a block share, float32 [n, n]; masks: uint8 [m, pixels]; blocks: int64 [n]."""
    ends = np.cumsum([len(members) for members in blocks]).tolist()
    order = like(np.concatenate([np.zeros(0, np.int64), *blocks]), masks)

    def within(tile: Array) -> list[np.ndarray]:
        ones = rows_of(tile, order).astype("float32")
        return [np.asarray(products_of_rows(ones[start:end])) for start, end in zip([0, *ends], ends)]

    # Shared by pixels among threads, because one class may have most of the masks.
    return (sum(parts) for parts in zip(*parallel(within, tiles_of(masks, TILE_ON_CPU))))


def _decay(intersection: np.ndarray, areas: np.ndarray, config: NMSConfig) -> np.ndarray:
    union = areas[None] + areas[:, None] - intersection
    iou = np.triu(intersection / union, k=1)  # [i, j]: j is overlapped by the better i
    compensation = iou.max(axis=0)[:, None]  # how much i is overlapped itself
    if config.kernel == "gaussian":
        return np.exp(config.sigma * (compensation**2 - iou**2).min(axis=0))
    # A mask that equals a better one has no say: the better one says the same, without a division by 0.
    free = 1 - compensation
    return np.where(free > 0, (1 - iou) / np.maximum(free, 1e-12), 1).min(axis=0)
