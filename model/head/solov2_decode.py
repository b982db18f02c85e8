"""From SOLOv2's raw predictions to instances (Wang et al. 2020, section 3.4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import HeadConfig, NMSConfig
from model.matrix_nms import matrix_nms
from model.solov2 import RawPredictions

CHUNK = 64  # masks computed at a time, so that they stay in the processor's cache


class Decoded(NamedTuple):
    """The n instances of one picture in descending order of score; n may be 0."""

    soft_masks: Tensor  # float32 [n, h, w] probability of each pixel, at a quarter of the padded input's size
    scores: Tensor  # float32 [n]
    classes: Tensor  # int64 [n] counted from 0


class Candidates(NamedTuple):
    """(cell, class) pairs above the threshold, and the masks of the cells they share."""

    cells: Tensor  # int64 [n] index of the cell among all cells
    classes: Tensor  # int64 [n]
    rows: Tensor  # int64 [n] into `masks`
    areas: Tensor  # float32 [n] pixels inside
    scores: Tensor  # float32 [n]
    masks: Tensor  # uint8 [m, pixels], one for each distinct cell: a cell has one mask, whatever its classes


@paddle.no_grad()
def decode(raw: RawPredictions, index: int, head: HeadConfig, nms: NMSConfig) -> Decoded:
    """The instances of picture `index` of a batch.

    In the order of the original SOLO: threshold on the category score, masks, area filter, score times mean
    probability inside the mask, the best `nms_pre`, Matrix NMS, `update_thr`, the best `max_per_img`.
    """
    kernels, size = raw.kernels[index], raw.mask_feats.shape[2:]
    feats = raw.mask_feats[index].flatten(start_axis=1)  # [D, pixels]
    found = _candidates(raw.scores[index], kernels, feats, head, nms)
    if found is not None:
        best = found.scores.argsort(descending=True)[: nms.nms_pre]
        # `gather`, because indexing with a tensor takes forty times as long on a CPU.
        cells, classes, rows, areas = (column.gather(best) for column in found[:4])
        scores = matrix_nms(found.scores.gather(best), classes, found.masks.gather(rows), areas, nms)
        kept = paddle.nonzero(scores >= nms.update_thr).flatten()
    if found is None or kept.shape[0] == 0:
        return Decoded(paddle.zeros([0, *size]), paddle.zeros([0]), paddle.zeros([0], dtype="int64"))
    kept = kept.gather(scores.gather(kept).argsort(descending=True)[: nms.max_per_img])
    soft_masks = F.sigmoid(kernels.gather(cells.gather(kept)) @ feats)
    return Decoded(soft_masks.reshape([-1, *size]), scores.gather(kept), classes.gather(kept))


def _candidates(
    scores: Tensor, kernels: Tensor, feats: Tensor, head: HeadConfig, nms: NMSConfig
) -> Candidates | None:
    """scores: [cells, classes]; kernels: [cells, D]; feats: [D, pixels]. None where no candidate is left."""
    pairs = paddle.nonzero(scores > nms.score_thr)
    if pairs.shape[0] == 0:
        return None
    distinct, rows = pairs[:, 0].unique(return_inverse=True)
    masks, areas, sums = _masks_of_cells(kernels.gather(distinct), feats, nms.mask_thr)
    smallest = np.repeat(head.strides, np.square(head.num_grids)).astype(np.float32)
    excess = areas - paddle.to_tensor(smallest).gather(distinct)
    kept = paddle.nonzero(excess.gather(rows) > 0).flatten()
    if kept.shape[0] == 0:
        return None
    pairs, rows = pairs.gather(kept), rows.gather(kept)
    certainty = (sums / areas).gather(rows)  # mean probability inside the mask
    return Candidates(
        cells=pairs[:, 0],
        classes=pairs[:, 1],
        rows=rows,
        areas=areas.gather(rows),
        scores=scores.gather_nd(pairs) * certainty,
        masks=masks,
    )


def _masks_of_cells(kernels: Tensor, feats: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The dynamic 1x1 convolution, a matrix product: masks uint8 [m, pixels], their areas [m], sums inside [m]."""
    ones = paddle.ones([feats.shape[1]])  # sums as products: Paddle's reduction takes four times as long on a CPU
    chunks = []
    for start in range(0, kernels.shape[0], CHUNK):
        soft = F.sigmoid(kernels[start : start + CHUNK] @ feats)
        inside = (soft > threshold).astype("float32")
        chunks.append((inside.astype("uint8"), inside @ ones, (soft * inside) @ ones))
    return tuple(paddle.concat(parts) for parts in zip(*chunks))
