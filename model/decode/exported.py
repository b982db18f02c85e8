"""Networks with their decoding as one graph: the plain decoders with a fixed number of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import paddle
from paddle import Tensor, nn

from config.base import Config, HeadConfig
from model.decode import plain, plain_boxes
from model.resize import shape_of

PlainMasks = Callable[["Sequence[Tensor]", int, Tensor, HeadConfig], Tensor]  # a function of plain_masks.py


class CellDecoder(nn.Layer):
    """A network of the SOLO family that gives instances of one picture, always `nms.max_per_img`.

    Candidates are the `nms.nms_pre` pairs of a cell and a class with the highest scores. `plain.decode` takes
    all pairs above `nms.score_thr`; up to `nms_pre` of them the results are the same.
    """

    def __init__(self, network: nn.Layer, config: Config, masks_of: PlainMasks) -> None:
        super().__init__()
        self.network = network
        self.masks_of = masks_of
        self.head, self.nms = config.head, config.nms
        pairs = config.num_classes * sum(grid * grid for grid in config.head.num_grids)
        self.candidates = min(config.nms.nms_pre, pairs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict and decode one picture. images: float32 [1, 3, H, W], as for the network.

        Returns masks, float32 [n, h, w], probabilities; scores, float32 [n], highest first; classes, int64 [n];
        and how many of them are instances, int64 [1]. The scores of the others are 0.
        """
        scores, *mask_inputs = self.network(images)
        num_classes = scores.shape[2]
        scores, pairs = paddle.topk(scores[0].flatten(), self.candidates)
        masks, scores, classes = plain.decode_candidates(
            scores,
            pairs // num_classes,
            pairs % num_classes,
            lambda cells: self.masks_of(mask_inputs, 0, cells, self.head),
            self.head,
            self.nms,
        )
        count = (scores > plain.REJECTED).astype("int64").sum().reshape([1])
        return masks, scores.clip(min=0.0), classes, count


class BoxDecoder(nn.Layer):
    """CenterMask2 that gives instances of one picture, always `nms.max_per_img`.

    The picture ends where the zeros begin that it is padded with at the bottom and right.
    """

    def __init__(self, network: nn.Layer, config: Config) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict and decode one picture. images: float32 [1, 3, H, W], as for the network.

        Returns masks, uint8 [n, H, W], 0 or 1, and the fields of `plain_boxes.BoxInstances`, whose masks come after the
        boxes.
        """
        size = plain_boxes.picture_size(images)
        found = plain_boxes.decode(self.network(images), size, self.network.roi_head, self.config)
        threshold = self.config.nms.mask_thr
        masks = plain_boxes.paste_masks(found.masks, found.boxes, shape_of(images)[2:], threshold=threshold)
        return masks, found.scores, found.classes, found.count, found.boxes, found.masks, found.box_scores
