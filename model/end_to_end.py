"""A network of cells with its decoding as one graph without a branch: Matrix NMS over a fixed number of candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import Config, HeadConfig, NMSConfig
from model.head.cell_masks import maps_of_cells
from model.resize import resize_bilinear, shape_of


class EndToEnd(nn.Layer):
    """What `model.decoding.decode` gives of one picture, filled up with scores of 0 to `nms.max_per_img` instances.

    Candidates are the `nms.nms_pre` pairs of cell and class with the highest category scores. `decode` computes the
    masks of more where more are above `nms.score_thr` and takes the best by category score times mean probability; up
    to `nms_pre` pairs above the threshold both are the same.
    """

    def __init__(self, network: nn.Layer, config: Config) -> None:
        super().__init__()
        self.network = network
        self.head, self.nms = config.head, config.nms
        self.num_classes = config.num_classes
        self.smallest = np.repeat(config.head.strides, np.square(config.head.num_grids)).astype(np.float32)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """images: float32 [1, 3, H, W], as of the network.

        Returns masks, float32 [n, H / 4, W / 4], probabilities; scores, float32 [n], descending; classes, int64 [n];
        and how many scores are above 0, int64 [1].
        """
        nms = self.nms
        raw, *parts = self.network(images)
        cells_of_all = len(self.smallest)
        scores, pairs = paddle.topk(raw[0].flatten(), min(nms.nms_pre, cells_of_all * self.num_classes))
        cells, classes = pairs // self.num_classes, pairs % self.num_classes
        soft = SOFT_MASKS[self.head.kind](parts, cells, self.head)
        flat = soft.flatten(start_axis=1)  # [candidates, pixels]
        inside = (flat > nms.mask_thr).astype("float32")
        areas = inside.sum(axis=1)
        counts = (scores > nms.score_thr).logical_and(areas > paddle.to_tensor(self.smallest).gather(cells))
        scores = scores * counts.astype("float32") * (flat * inside).sum(axis=1) / areas.clip(min=1.0)
        scores, order = paddle.topk(scores, scores.shape[0])
        areas, classes = areas.gather(order), classes.gather(order)
        shared = paddle.matmul(inside, inside, transpose_y=True).gather(order).gather(order, axis=1)
        scores = scores * _decay(shared, areas, classes, nms)
        scores, kept = paddle.topk(scores, min(nms.max_per_img, scores.shape[0]))
        scores = scores * (scores >= nms.update_thr).astype("float32")
        count = (scores > 0).astype("int64").sum().reshape([1])
        return soft.gather(order.gather(kept)), scores, classes.gather(kept), count


def _decay(shared: Tensor, areas: Tensor, classes: Tensor, nms: NMSConfig) -> Tensor:
    """What each candidate's score is multiplied with; shared: [n, n], pixels that two of them have in common."""
    union = areas.unsqueeze(0) + areas.unsqueeze(1) - shared
    same = (classes.unsqueeze(0) == classes.unsqueeze(1)).astype("float32")
    iou = paddle.triu(shared / union.clip(min=1.0) * same, diagonal=1)  # [i, j]: j is overlapped by the better i
    compensation = iou.max(axis=0).unsqueeze(1)  # how much i is overlapped itself
    if nms.kernel == "gaussian":
        return paddle.exp(nms.sigma * (compensation**2 - iou**2).min(axis=0))
    free = 1 - compensation
    ratios = (1 - iou) / free.clip(min=1e-12)
    return paddle.where(free.expand_as(ratios) > 0, ratios, paddle.ones_like(ratios)).min(axis=0)


def _of_solov2(parts: Sequence[Tensor], cells: Tensor, head: HeadConfig) -> Tensor:
    """As all of these: probabilities [candidates, h, w] of the candidates' cells, from what `mask_parts` gave."""
    kernels, mask_feats = parts
    return _by_kernels(kernels[0].gather(cells), mask_feats)


def _of_solo(parts: Sequence[Tensor], cells: Tensor, head: HeadConfig) -> Tensor:
    """Of each candidate by the features of all levels, of which its own is kept."""
    kernels, *mask_feats = parts
    kernels = kernels.gather(cells)
    level_of = np.repeat(np.arange(len(head.num_grids)), np.square(head.num_grids))
    levels = paddle.to_tensor(level_of).gather(cells).reshape([-1, 1, 1])
    size = shape_of(mask_feats[0])[2:]
    total = 0
    for level, feats in enumerate(mask_feats):
        soft = resize_bilinear(_by_kernels(kernels, feats).unsqueeze(1), size).squeeze(1)
        total = total + soft * (levels == level).astype("float32")
    return total


def _of_decoupled_solo(parts: Sequence[Tensor], cells: Tensor, head: HeadConfig) -> Tensor:
    size = shape_of(parts[0])[2:]
    # By tanh, for Paddle 3.3's inference library fails where it joins a sigmoid to the convolutions before it.
    levels = [paddle.tanh(level * 0.5) * 0.5 + 0.5 for level in parts]
    maps = paddle.concat([resize_bilinear(level, size)[0] for level in levels])  # [maps, h, w]
    columns, rows = maps_of_cells(head.num_grids)
    return maps.gather(paddle.to_tensor(columns).gather(cells)) * maps.gather(paddle.to_tensor(rows).gather(cells))


def _by_kernels(kernels: Tensor, feats: Tensor) -> Tensor:
    """kernels: [n, D]; feats: [1, D, h, w]."""
    height, width = shape_of(feats)[2:]
    return F.sigmoid(paddle.matmul(kernels, feats[0].flatten(start_axis=1))).reshape([-1, height, width])


SOFT_MASKS = {"solov2": _of_solov2, "solo": _of_solo, "decoupled_solo": _of_decoupled_solo}  # by `head.kind`
