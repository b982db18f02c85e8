"""Matrix NMS (Wang et al. 2020, SOLOv2, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Callable

import numpy as np

from config.base import NMSConfig
from model.arrays import Array
from model.startup import CPU_THREADS

MANY = 64  # masks of a class that threads share: they need some work before they pay


def matrix_nms(
    scores: np.ndarray,
    classes: np.ndarray,
    masks: Array,
    areas: np.ndarray,
    config: NMSConfig,
    parallel: Callable[..., Iterable] = map,
) -> np.ndarray:
    """Lower the score of each candidate by the overlap of its mask with better ones of its class.

    The n candidates stand in descending order of score. scores: float32 [n]; classes: int64 [n]; masks: bool
    [n, pixels], `packed`; areas: float32 [n], pixels inside; parallel: `map`, or that of a pool of threads. Returns the
    lowered scores, float32 [n].

    A candidate meets only its own class, which gives what the original program computes over all pairs: pairs of
    different classes have an overlap of 0 and never hold the smallest factor.
    """
    decay = np.ones_like(scores)
    order = np.argsort(classes, kind="stable")  # in a class in descending order of score
    starts = np.unique(classes[order], return_index=True)[1]
    groups = [members for members in np.split(order, starts[1:]) if len(members) > 1]
    for members, intersection in zip(groups, _intersections(masks, groups, parallel)):
        decay[members] = _decay(intersection, areas[members], config)
    return scores * decay


def _intersections(
    masks: Array, groups: Sequence[np.ndarray], parallel: Callable[..., Iterable]
) -> Iterator[np.ndarray]:
    """Pixels that each two masks of a group share, float32 [n, n]: each one with those behind it, at least."""
    if isinstance(masks, np.ndarray):
        words = np.zeros((len(masks), -(-masks.shape[1] // 8)), np.uint64)
        words.view(np.uint8)[:, : masks.shape[1]] = masks
        yield from (_shared_bits(words[members], parallel) for members in groups)
    elif groups:  # a device has the product of all in the time of a few
        ones = masks.astype("float32")
        shared = ones.matmul(ones, transpose_y=True).numpy()
        yield from (shared[np.ix_(members, members)] for members in groups)


def _shared_bits(words: np.ndarray, parallel: Callable[..., Iterable]) -> np.ndarray:
    """words: uint64 [n, k], 64 pixels each. As numbers, not as bits, their product would take three times as long."""
    count = len(words)
    shared = np.zeros((count, count), np.float32)
    step = CPU_THREADS if count > MANY else 1

    def fill(first: int) -> None:
        for row in range(first, count - 1, step):
            shared[row, row + 1 :] = _bits_set(words[row + 1 :] & words[row])

    list((parallel if step > 1 else map)(fill, range(step)))
    return shared


def _bits_set(words: np.ndarray) -> np.ndarray:
    """How many of each row's, [n]; words: uint64 [n, k]."""
    counts = np.bitwise_count(words) if hasattr(np, "bitwise_count") else _bits_of_numbers()[words.view(np.uint16)]
    return counts.sum(axis=1, dtype=np.uint32)


@lru_cache(maxsize=1)
def _bits_of_numbers() -> np.ndarray:
    """How many are set in each number of 16 bits, uint8 [65536], for numpy 1, which cannot count them."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return np.unpackbits(numbers, axis=1).sum(axis=1, dtype=np.uint8)


def _decay(intersection: np.ndarray, areas: np.ndarray, config: NMSConfig) -> np.ndarray:
    union = areas[None] + areas[:, None] - intersection
    iou = np.triu(intersection / union, k=1)  # [i, j]: j is overlapped by the better i
    compensation = iou.max(axis=0)[:, None]  # how much i is overlapped itself
    if config.kernel == "gaussian":
        return np.exp(config.sigma * (compensation**2 - iou**2).min(axis=0))
    # A mask that equals a better one has no say: the better one says the same, without a division by 0.
    free = 1 - compensation
    return np.where(free > 0, (1 - iou) / np.maximum(free, 1e-12), 1).min(axis=0)
