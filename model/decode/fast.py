"""The fast decoder of the SOLO family for CPUs: the results of `plain.py`, up to rounding, in numpy.

Thousands of cells may pass the score threshold, but only `nms.nms_pre` of them enter Matrix NMS. This version computes
the masks of cells that can be among these: a sample of the pixels bounds the scores of the others, with a risk of 1e-9
per mask (`fast_masks.RISK`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from config.base import HeadConfig, NMSConfig
from model.decode.cells import smallest_areas
from model.decode.decoded import Decoded
from model.decode.fast_masks import CellMasks
from model.decode.fast_matrix_nms import matrix_nms

MARGIN = 0.995  # of an estimated limit: computing some tens of masks more costs less than a second round
BLOCK = 256  # masks computed in each round after the first


class Candidates(NamedTuple):
    """The n best pairs of a cell and a class, sorted by score, highest first."""

    cells: np.ndarray  # int64 [n]
    classes: np.ndarray  # int64 [n]
    scores: np.ndarray  # float32 [n], class score times the mean probability inside the mask
    areas: np.ndarray  # float32 [n], pixels inside
    inside: np.ndarray  # uint8 [n, ceil(pixels / 8)], a bit per pixel, 1 inside the mask


def decode(scores: np.ndarray, masks: CellMasks, head: HeadConfig, nms: NMSConfig) -> Decoded:
    """Decode one picture in the numbered steps of `plain.py`.

    scores: float32 [cells, classes], probabilities after points NMS.
    """
    candidates = best_candidates(scores, masks, head, nms)  # 1. to 5.
    decayed = candidates.scores * matrix_nms(candidates.inside, candidates.areas, candidates.classes, nms)  # 6.
    kept = np.argsort(-decayed, kind="stable")[: nms.max_per_img]  # 8. before 7., with the same result: they are sorted
    kept = kept[decayed[kept] >= nms.update_thr]  # 7.
    probabilities = masks.probabilities(candidates.cells[kept]) if len(kept) else np.zeros((0, *masks.size), np.float32)
    return Decoded(probabilities, decayed[kept], candidates.classes[kept])


def best_candidates(scores: np.ndarray, masks: CellMasks, head: HeadConfig, nms: NMSConfig) -> Candidates:
    """Return the `nms_pre` best candidates; arguments as in `decode`.

    Masks are computed in rounds, sorted by the highest score that they can have: first those that are likely to be
    needed, then more until no other can be among the best.
    """
    cells, classes = np.nonzero(scores > nms.score_thr)  # 1.
    values = scores[cells, classes]
    smallest = smallest_areas(head)
    rounds = _Rounds(masks, smallest, nms)
    order, highest, needed = _search_order(cells, values, masks, smallest, nms)
    wanted = np.count_nonzero(highest >= needed)
    start = 0
    while wanted:
        rounds.compute(order[start : start + wanted])  # 2. and 3.
        start += wanted
        needed = _nth_largest(values * rounds.maskness[cells], nms.nms_pre)
        wanted = min(np.count_nonzero(highest[start:] >= needed), BLOCK)
    ranked = values * rounds.maskness[cells]  # 4.
    best = np.argsort(-ranked, kind="stable")[: nms.nms_pre]  # 5.
    best = best[ranked[best] > 0]
    chosen = cells[best]
    return Candidates(chosen, classes[best], ranked[best], rounds.areas[chosen], rounds.inside_of(chosen))


def _search_order(
    cells: np.ndarray, values: np.ndarray, masks: CellMasks, smallest: np.ndarray, nms: NMSConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the m cells with candidates in the order in which to compute their masks.

    Gives their indices, int64 [m], the highest score that each can have, float32 [m], descending, and a score that the
    worst of the `nms_pre` best is likely to reach. cells, values: cell and class score of each candidate.
    """
    highest = np.zeros(len(smallest), np.float32)  # of each cell
    np.maximum.at(highest, cells, values)
    present = np.unique(cells)  # the m cells
    needed = 0.0
    if len(values) > nms.nms_pre:
        likely = np.zeros(len(smallest), np.float32)  # maskness of each cell
        likely[present], bound = masks.estimate_maskness(present, nms.mask_thr)
        needed = MARGIN * _nth_largest(values * likely[cells], nms.nms_pre)
        highest[present] *= bound
    order = present[np.argsort(-highest[present], kind="stable")]
    return order, highest[order], needed


class _Rounds:
    """The masks computed so far, with the area and maskness of each cell."""

    def __init__(self, masks: CellMasks, smallest: np.ndarray, nms: NMSConfig) -> None:
        self.masks = masks
        self.smallest = smallest
        self.threshold = nms.mask_thr
        self.areas, self.maskness = np.zeros((2, len(smallest)), np.float32)
        self._rows = np.zeros(len(smallest), np.int64)  # of each cell in the parts together
        self._parts: list[np.ndarray] = []
        self._count = 0

    def compute(self, cells: np.ndarray) -> None:
        """Compute the masks of cells, int64 [n]."""
        inside, areas, sums = self.masks.inside(cells, self.threshold)
        self._rows[cells] = self._count + np.arange(len(cells))
        self._count += len(cells)
        self._parts.append(inside)
        self.areas[cells] = areas
        self.maskness[cells] = np.where(areas > self.smallest[cells], sums / np.maximum(areas, 1), 0)

    def inside_of(self, cells: np.ndarray) -> np.ndarray:
        """Return uint8 [n, ceil(pixels / 8)] for cells, int64 [n], that were computed."""
        if not len(cells):
            return np.zeros((0, 0), np.uint8)
        computed = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)  # megabytes
        return computed.take(self._rows[cells], axis=0)


def _nth_largest(values: np.ndarray, count: int) -> float:
    """Return the smallest of the `count` largest values, or of all if there are fewer; there is at least one."""
    return np.sort(values)[-count:][0]
