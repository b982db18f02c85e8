"""From raw predictions of the SOLO family to instances (Wang et al. 2020, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, NamedTuple

import numpy as np

from config.base import HeadConfig, NMSConfig
from model.arrays import Array, entries_above, joined, library_of, like, rows_of
from model.head.cell_masks import CellMasks
from model.matrix_nms import matrix_nms

NEARLY = 0.995  # of a score that is estimated: to look again for a few masks takes as long as some tens of masks more
BLOCK = 256  # cells looked at together once there may be enough, between two looks at whether more are needed


class Decoded(NamedTuple):
    """The n instances of one picture in descending order of score; n may be 0."""

    soft_masks: Array  # float32 [n, h, w] probability of each pixel, at a quarter of the padded input's size
    scores: np.ndarray  # float32 [n]
    classes: np.ndarray  # int64 [n] counted from 0


class Candidates(NamedTuple):
    """The best (cell, class) pairs, in descending order of score."""

    cells: np.ndarray  # int64 [n] index of the cell among all cells
    classes: np.ndarray  # int64 [n]
    scores: np.ndarray  # float32 [n]
    areas: np.ndarray  # float32 [n] pixels inside
    masks: Array  # bool [n, pixels], `packed`


def decode_picture(
    scores: Array, masks: CellMasks, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Decoded:
    """The instances of a picture; scores: [cells, classes]; parallel: `map`, or that of a pool of threads.

    In the order of the original SOLO: threshold on the category score, masks, area filter, score times mean
    probability inside the mask, the best `nms_pre`, Matrix NMS, `update_thr`, the best `max_per_img`.
    """
    found = best_candidates(scores, masks, head, nms, parallel)
    decayed = matrix_nms(found.scores, found.classes, found.masks, found.areas, nms, parallel)
    kept = np.argsort(-decayed, kind="stable")[: nms.max_per_img]
    kept = kept[decayed[kept] >= nms.update_thr]
    soft_masks = masks.soft(found.cells[kept], parallel) if len(kept) else _nothing(scores, *masks.size)
    return Decoded(soft_masks, decayed[kept], found.classes[kept])


def best_candidates(
    scores: Array, masks: CellMasks, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Candidates:
    """The `nms_pre` best candidates; arguments as in `decode_picture`.

    A candidate's score is its category score times the mean probability inside of its mask, of which a few pixels tell
    what it is about and what it is at most. Cells are looked at in descending order of what their best score can be:
    first those that are likely to be needed, then more until there are `nms_pre` candidates above what is still to
    come. The masks of the other cells are not computed: there may be thousands of them.
    """
    cells, classes, values = entries_above(scores, nms.score_thr)
    smallest = np.repeat(head.strides, np.square(head.num_grids))  # area in pixels that a mask must exceed
    best_of_cell = np.zeros(len(smallest), np.float32)
    np.maximum.at(best_of_cell, cells, values)
    present = np.unique(cells)
    areas, certainty = np.zeros((2, len(smallest)), np.float32)
    worst = 0  # of the best `nms_pre`, at first as they are likely to be
    if len(values) > nms.nms_pre:
        certainty[present], most = masks.likely_certainty(present, nms.mask_thr, parallel).T
        worst = NEARLY * _smallest_of_best(values * certainty[cells], nms.nms_pre)
        best_of_cell[present] *= most
        certainty[:] = 0
    order = present[np.argsort(-best_of_cell[present], kind="stable")]
    wanted = np.count_nonzero(best_of_cell[order] >= worst)
    rest, looked_at = order, []
    while wanted:
        chosen, rest = np.split(rest, [wanted])
        inside, areas[chosen], sums = masks.inside(chosen, nms.mask_thr, parallel)
        looked_at.append(inside)
        large = areas[chosen] > smallest[chosen]
        certainty[chosen] = np.where(large, sums / np.maximum(areas[chosen], 1), 0)
        worst = _smallest_of_best(values * certainty[cells], nms.nms_pre)
        wanted = min(np.count_nonzero(best_of_cell[rest] >= worst), BLOCK)
    scored = values * certainty[cells]
    best = np.argsort(-scored, kind="stable")[: nms.nms_pre]
    best = best[scored[best] > 0]
    place = np.zeros(len(smallest), np.int64)
    place[order] = np.arange(len(order))
    found = _nothing(scores, 0).astype("uint8")
    if len(best):
        found = rows_of(joined(looked_at), like(place[cells[best]], looked_at[0]))
    return Candidates(
        cells=cells[best],
        classes=classes[best],
        scores=scored[best],
        areas=areas[cells[best]],
        masks=found,
    )


def _smallest_of_best(values: np.ndarray, count: int) -> float:
    """The smallest of the `count` largest ones, or of all; there is one at least."""
    return np.sort(values)[-count:][0]


def _nothing(scores: Array, *shape: int) -> Array:
    """float32 [0, *shape], in the library of the scores."""
    return library_of(scores).zeros([0, *shape], dtype="float32")
