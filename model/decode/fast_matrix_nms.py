"""Matrix NMS (Wang et al. 2020, SOLOv2, section 3.4) for CPUs: the factors of `plain.matrix_nms`, in numpy."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np

from config.base import NMSConfig
from model.decode.loops import numba_loops
from model.decode.threads import parallel_map
from model.startup import CPU_THREADS

MANY_WORDS = 1 << 20  # words to compare in a class; below this, starting threads takes longer than the work


def matrix_nms(inside: np.ndarray, areas: np.ndarray, classes: np.ndarray, config: NMSConfig) -> np.ndarray:
    """Return the factor, float32 [n], that lowers each score for overlaps with better masks of its class.

    inside: uint8 [n, k], a bit per pixel, 1 inside the mask; areas: float32 [n], pixels inside; classes: int64 [n]; all
    sorted by score, highest first.

    Candidates are compared within their class only. The original program compares all pairs, with the same result:
    pairs of different classes have an overlap of 0, which never gives the smallest factor.
    """
    factors = np.ones(len(areas), np.float32)
    order = np.argsort(classes, kind="stable")  # within a class still sorted by score
    starts = np.unique(classes[order], return_index=True)[1]
    words = _words(inside)
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            own = words if len(members) == len(words) else words[members]
            factors[members] = _decay(_intersections(own), areas[members], config)
    return factors


def _words(bits: np.ndarray) -> np.ndarray:
    """Return uint8 [n, k] as uint64 [n, ceil(k / 8)], with zeros at the end; rows of whole words are not copied."""
    if bits.shape[1] % 8 == 0:
        return np.ascontiguousarray(bits).view(np.uint64)
    words = np.zeros((len(bits), -(-bits.shape[1] // 8)), np.uint64)
    words.view(np.uint8)[:, : bits.shape[1]] = bits
    return words


def _intersections(words: np.ndarray) -> np.ndarray:
    """Count the pixels that two different masks share, float32 [n, n]; words: uint64 [n, k], 64 pixels each.

    A matrix product of numbers 0 and 1 would take three times as long.
    """
    count, length = words.shape
    used = words > 0
    starts, stops = used.argmax(axis=1), length - used[:, ::-1].argmax(axis=1)  # of the words with pixels of a mask
    if loops := numba_loops(count):
        return _intersections_compiled(loops, words, starts, stops)
    order = np.argsort(starts)
    words, starts, stops = words[order], starts[order], stops[order]
    ends = np.searchsorted(starts, stops)  # the masks from here on begin after the end of this one
    shared = np.zeros((count, count), np.float32)
    step = CPU_THREADS if ((ends - np.arange(count)) * (stops - starts)).sum() > MANY_WORDS else 1

    def fill(first: int) -> None:
        for row in range(first, count - 1, step):
            others, span = slice(row + 1, ends[row]), slice(starts[row], stops[row])
            shared[row, others] = _count_bits(words[others, span] & words[row, span])

    list((parallel_map if step > 1 else map)(fill, range(step)))
    places = np.argsort(order)
    return (shared + shared.T)[np.ix_(places, places)]


def _intersections_compiled(loops: ModuleType, words: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the result of `_intersections`; starts, stops: int64 [n], the words with pixels of each mask."""
    shared = np.zeros((len(words), len(words)), np.float32)
    step = CPU_THREADS if len(words) * (stops - starts).sum() > MANY_WORDS else 1
    map_rows = parallel_map if step > 1 else map
    list(map_rows(lambda first: loops.share_pixels(words, starts, stops, first, step, shared), range(step)))
    return shared


def _count_bits(words: np.ndarray) -> np.ndarray:
    """Count the bits that are 1 in each row of uint64 [n, k]: [n]."""
    counts = np.bitwise_count(words) if hasattr(np, "bitwise_count") else _bit_counts()[words.view(np.uint16)]
    return counts.sum(axis=1, dtype=np.uint32)


@lru_cache(maxsize=1)
def _bit_counts() -> np.ndarray:
    """Return the bits that are 1 in each number of 16 bits, uint8 [65536], for numpy 1, which cannot count them."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return np.unpackbits(numbers, axis=1).sum(axis=1, dtype=np.uint8)


def _decay(intersection: np.ndarray, areas: np.ndarray, config: NMSConfig) -> np.ndarray:
    union = areas[None] + areas[:, None] - intersection
    iou = np.triu(intersection / union, k=1)  # [i, j]: the better i overlaps j
    compensation = iou.max(axis=0)[:, None]  # [i, 1]: how much i is overlapped itself
    if config.kernel == "gaussian":
        return np.exp(config.sigma * (compensation**2 - iou**2).min(axis=0))
    # Where i equals a better mask, that one lowers j just as much; skipping i avoids a division by 0.
    free = 1 - compensation
    return np.where(free > 0, (1 - iou) / np.maximum(free, 1e-12), 1).min(axis=0)
