"""CenterMask2 (Lee and Park 2020): boxes by FCOS, and for each box a mask by SAG-Mask with an estimate of its IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import Config
from config.networks import BOX_STRIDES, level_sizes
from model.backbone.build import build_backbone
from model.decode.decoded import Decoded
from model.decode.fast_boxes import Size, decode_boxes
from model.head.fcos import FCOSHead, LocationPredictions
from model.head.roi_align import ROI_LEVELS, box_features
from model.head.sag_mask import RoIHead
from model.losses.boxes import BoxPictureTargets, location_losses
from model.losses.common import LossSum, zero_loss
from model.losses.roi import ChosenBoxes, choose_boxes, mask_losses, mask_targets
from model.neck.fpn import FPNToP7


class CenterMask2(nn.Layer):
    """A network in two parts: `forward` predicts boxes; `roi_head` predicts masks of boxes chosen from them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone)
        channels = config.neck.out_channels
        self.neck = FPNToP7(self.backbone.out_channels[-ROI_LEVELS:], config.neck)
        self.head = FCOSHead(channels, config.num_classes, config.head)
        self.roi_head = RoIHead(channels, config.num_classes, config.roi)
        self.config = config

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the raw predictions of a batch; no branch depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. Returns probabilities [N, locations,
        classes], centerness [N, locations], distances [N, locations, 4] to the sides of the box, and the maps from
        which RoIAlign cuts: [N, C, H / s, W / s], s = 8, 16, 32.
        """
        maps, pyramid = self.trunk(images)
        return (*self.scores(maps), *pyramid)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Compute everything except the last layers of the boxes, which need full precision: bfloat16 loses pixels.

        Returns the features that boxes are made of, [N, channels, h, w] of each level of both towers, and the maps from
        which RoIAlign cuts.
        """
        features = self.neck(self.backbone(images)[-ROI_LEVELS:])
        return self.head.towers(features), features[:ROI_LEVELS]

    def scores(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return probabilities, centerness and distances of `forward` from the features that `trunk` returns for
        them."""
        return probabilities_of(self.head.predictions(maps))

    def losses(self, images: Tensor, targets: Sequence[BoxPictureTargets]) -> dict[str, LossSum]:
        """Return the losses of a batch: `category`, `box`, `centerness`, `mask` and `mask_iou`.

        images: as in `forward`, one item of `targets` for each. Losses are float32, in mixed precision too.
        """
        features = self.neck(self.backbone(images)[-ROI_LEVELS:])
        predictions = self.head(features)
        chosen = self._choose_boxes(predictions, level_sizes(*images.shape[2:]), targets)
        # Without boxes all parameters still get gradients, of 0.
        boxes = [own.boxes for own in chosen]
        classes = np.concatenate([picture.classes[own.owners] for picture, own in zip(targets, chosen)])
        if empty := not len(classes):
            boxes[0], classes = np.float32([[0, 0, 1, 1]]), np.zeros(1, np.int64)
        sizes = [picture.picture for picture in targets]
        rois = box_features(features[:ROI_LEVELS], boxes, sizes, side=self.config.roi.size)
        logits, overlaps = self.roi_head(rois, paddle.to_tensor(classes))
        with paddle.amp.auto_cast(enable=False):
            losses = location_losses(predictions, targets, self.config.loss)
            if empty:
                return {**losses, "mask": LossSum(zero_loss(logits), 0), "mask_iou": LossSum(zero_loss(overlaps), 0)}
            side = 2 * self.config.roi.size
            parts = [mask_targets(own, picture, side=side) for picture, own in zip(targets, chosen)]
            return {**losses, **mask_losses(logits, overlaps, *map(np.concatenate, zip(*parts)))}

    @paddle.no_grad()
    def _choose_boxes(
        self, predictions: LocationPredictions, level_maps: Sequence[Size], targets: Sequence[BoxPictureTargets]
    ) -> list[ChosenBoxes]:
        """Choose the boxes of each picture whose masks are trained, among those predicted and those annotated."""
        settings = self.config.roi
        arrays = [part.astype("float32").numpy() for part in probabilities_of(predictions)]
        return [
            choose_boxes(
                decode_boxes(scores, centers, distances, level_maps, self.config.nms, limit=settings.train_boxes).boxes,
                picture,
                settings,
            )
            for (scores, centers, distances), picture in zip(zip(*arrays), targets)
        ]


def probabilities_of(predictions: LocationPredictions) -> LocationPredictions:
    """Return the predictions with probabilities and centerness in place of their logits."""
    return LocationPredictions(
        F.sigmoid(predictions.logits), F.sigmoid(predictions.centre_logits), predictions.distances
    )


# Mask logits [n, 2 size, 2 size] and estimated IoUs [n] from features of boxes and their classes: what `roi_head`
# computes.
RoIs = Callable[[Tensor, np.ndarray], "tuple[Tensor, Tensor]"]


@paddle.no_grad()
def decode_batch(
    predictions: Sequence[np.ndarray], pyramid: Sequence[Tensor], sizes: Sequence[Size], config: Config, rois: RoIs
) -> list[Decoded]:
    """Decode the pictures of a batch: choose boxes, and compute the masks of all of them together.

    predictions: probabilities, centerness and distances of `CenterMask2.forward`; pyramid: its other tensors; sizes:
    height and width of each picture within the network's input.
    """
    level_maps = level_sizes(*(BOX_STRIDES[0] * side for side in pyramid[0].shape[2:]))
    boxes = [
        decode_boxes(scores, centers, distances, level_maps, config.nms, limit=config.nms.max_per_img)
        for scores, centers, distances in zip(*predictions)
    ]
    ends = np.cumsum([len(own.boxes) for own in boxes])
    masks, ious = np.zeros((0, 2 * config.roi.size, 2 * config.roi.size), np.float32), np.zeros(0, np.float32)
    if ends[-1]:
        features = box_features(pyramid, [own.boxes for own in boxes], sizes, side=config.roi.size)
        logits, estimates = rois(features, np.concatenate([own.classes for own in boxes]))
        masks, ious = F.sigmoid(logits).numpy(), estimates.numpy()
    pictures = zip(boxes, np.split(masks, ends[:-1]), np.split(ious, ends[:-1]))
    return [
        Decoded(own_masks, own.scores * own_ious, own.classes, own.boxes, own.scores)
        for own, own_masks, own_ious in pictures
    ]
