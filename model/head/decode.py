"""From raw predictions of the SOLO family to instances (Wang et al. 2020, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from config.base import HeadConfig, NMSConfig
from model.head.cell_masks import Array, CellMasks
from model.matrix_nms import matrix_nms

BLOCK = 256  # cells looked at together, between two looks at whether more are needed


class Decoded(NamedTuple):
    """The n instances of one picture in descending order of score; n may be 0."""

    soft_masks: Tensor  # float32 [n, h, w] probability of each pixel, at a quarter of the padded input's size
    scores: np.ndarray  # float32 [n]
    classes: np.ndarray  # int64 [n] counted from 0


class Candidates(NamedTuple):
    """The best (cell, class) pairs, in descending order of score."""

    cells: np.ndarray  # int64 [n] index of the cell among all cells
    classes: np.ndarray  # int64 [n]
    scores: np.ndarray  # float32 [n]
    areas: np.ndarray  # float32 [n] pixels inside
    masks: Tensor  # uint8 [n, pixels]


@paddle.no_grad()
def decode_picture(
    scores: Tensor, masks: CellMasks, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Decoded:
    """The instances of a picture; scores: [cells, classes]; parallel: `map`, or that of a pool of threads.

    In the order of the original SOLO: threshold on the category score, masks, area filter, score times mean
    probability inside the mask, the best `nms_pre`, Matrix NMS, `update_thr`, the best `max_per_img`.
    """
    found = best_candidates(scores, masks, head, nms, parallel)
    decayed = matrix_nms(found.scores, found.classes, found.masks, found.areas, nms, parallel)
    kept = np.argsort(-decayed, kind="stable")[: nms.max_per_img]
    kept = kept[decayed[kept] >= nms.update_thr]
    soft_masks = masks.soft(found.cells[kept]) if len(kept) else paddle.zeros([0, *masks.size])
    return Decoded(soft_masks, decayed[kept], found.classes[kept])


def best_candidates(
    scores: Tensor, masks: CellMasks, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Candidates:
    """The `nms_pre` best candidates; arguments as in `decode_picture`.

    A candidate's score is its category score times a mean probability, so it is never above its category score. Cells
    are looked at in descending order of their best category score, and once there are `nms_pre` candidates above what
    is still to come, the masks of the other cells are not computed: there may be thousands of them.
    """
    pairs = paddle.nonzero(scores > nms.score_thr)
    values = scores.gather_nd(pairs).numpy() if len(pairs) else np.zeros(0, np.float32)
    cells, classes = pairs.numpy().reshape(-1, 2).T
    smallest = np.repeat(head.strides, np.square(head.num_grids))  # area in pixels that a mask must exceed
    best_of_cell = np.zeros(len(smallest), np.float32)
    np.maximum.at(best_of_cell, cells, values)
    order = np.argsort(-best_of_cell, kind="stable")[: len(np.unique(cells))]
    areas, certainty = np.zeros((2, len(smallest)), np.float32)  # of the cells looked at so far
    looked_at = []
    for start in range(0, len(order), BLOCK):
        chosen, rest = order[start : start + BLOCK], order[start + BLOCK :]
        inside, areas[chosen], sums = masks.inside(chosen, nms.mask_thr, parallel)
        looked_at += inside
        large = areas[chosen] > smallest[chosen]
        certainty[chosen] = np.where(large, sums / np.maximum(areas[chosen], 1), 0)
        if len(rest) and (values * certainty[cells] > best_of_cell[rest[0]]).sum() >= nms.nms_pre:
            break
    scored = values * certainty[cells]
    best = np.argsort(-scored, kind="stable")[: nms.nms_pre]
    best = best[scored[best] > 0]
    place = np.zeros(len(smallest), np.int64)
    place[order] = np.arange(len(order))
    return Candidates(
        cells=cells[best],
        classes=classes[best],
        scores=scored[best],
        areas=areas[cells[best]],
        masks=_stacked([looked_at[row] for row in place[cells[best]]], masks.size[0] * masks.size[1]),
    )


def _stacked(rows: Sequence[Array], pixels: int) -> Tensor:
    """uint8 [n, pixels] of n rows; n may be 0."""
    if not rows:
        return paddle.zeros([0, pixels], "uint8")
    return paddle.stack(rows) if isinstance(rows[0], Tensor) else paddle.to_tensor(np.stack(rows))
