"""Matrix NMS (Wang et al. 2020, SOLOv2, section 3.4)."""

from __future__ import annotations

import paddle
from paddle import Tensor

from config.base import NMSConfig


def matrix_nms(scores: Tensor, classes: Tensor, masks: Tensor, areas: Tensor, config: NMSConfig) -> Tensor:
    """Lower the score of each mask by its overlap with better ones of its class.

    The n masks stand in descending order of score. scores: float32 [n]; classes: int64 [n]; masks: uint8 [n, pixels],
    1 inside; areas: float32 [n], pixels inside of each mask. Returns the lowered scores, float32 [n].

    A mask meets only its own class here, which gives what the original program computes over all pairs: pairs of
    different classes have an overlap of 0 and never hold the smallest factor.
    """
    decay = paddle.ones_like(scores)
    for present in classes.unique().tolist():
        rows = paddle.nonzero(classes == present).flatten()
        if rows.shape[0] > 1:
            factors = _decay_within_class(masks.gather(rows).astype("float32"), areas.gather(rows), config)
            decay = paddle.scatter(decay, rows, factors)
    return scores * decay


def _decay_within_class(masks: Tensor, areas: Tensor, config: NMSConfig) -> Tensor:
    intersection = paddle.matmul(masks, masks, transpose_y=True)
    union = areas.unsqueeze(0) + areas.unsqueeze(1) - intersection
    iou = (intersection / union).triu(1)  # [i, j]: j is overlapped by the better i
    compensation = iou.max(axis=0).unsqueeze(1)  # how much i is overlapped itself
    if config.kernel == "gaussian":
        factors = paddle.exp(config.sigma * (compensation**2 - iou**2))
    else:
        # A mask that equals a better one has no say: the better one says the same, without a division by 0.
        free = 1.0 - compensation
        factors = paddle.where(free > 0, (1.0 - iou) / free.clip(min=1e-12), paddle.ones_like(iou))
    return factors.min(axis=0)
