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
from model.head.box_decode import Detected, Size, decode_boxes
from model.head.box_losses import BoxPictureTargets, location_losses
from model.head.fcos import FCOSHead, LocationPredictions
from model.head.grid_losses import LossSum, nothing
from model.head.roi_align import ROI_LEVELS, box_features
from model.head.roi_losses import ChosenBoxes, choose_boxes, mask_losses, mask_targets
from model.head.sag_mask import RoIHead
from model.neck.fpn import FPNToP7


class CenterMask2(nn.Layer):
    """Two parts with decisions between them: `forward` gives raw predictions, `roi_head` masks of chosen boxes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone)
        channels = config.neck.out_channels
        self.neck = FPNToP7(self.backbone.out_channels[-ROI_LEVELS:], config.neck)
        self.head = FCOSHead(channels, config.num_classes, config.head)
        self.roi_head = RoIHead(channels, config.num_classes, config.roi)
        self.config = config

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw predictions of a batch, before any decision; there is no branch that depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. The probabilities of the locations' classes
        [N, locations, classes], their centerness [N, locations], their distances [N, locations, 4] as of the head, and
        what RoIAlign cuts from: [N, C, H / s, W / s], s = 8, 16, 32.
        """
        maps, pyramid = self.trunk(images)
        return (*self.scores(maps), *pyramid)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """All but the last layers of the boxes, which are not for lower precision: a pixel is less than its last bit.

        What boxes are made of, [N, channels, h, w] of each level of both towers, and what RoIAlign cuts from.
        """
        features = self.neck(self.backbone(images)[-ROI_LEVELS:])
        return self.head.towers(features), features[:ROI_LEVELS]

    def scores(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As in `forward`: probabilities, centerness and distances."""
        return probabilities_of(self.head.predictions(maps))

    def losses(self, images: Tensor, targets: Sequence[BoxPictureTargets]) -> dict[str, LossSum]:
        """Losses of a batch by name: `category`, `box`, `centerness`, `mask` and `mask_iou`.

        images: as in `forward`, one item of `targets` for each. All of it is float32, in mixed precision too.
        """
        features = self.neck(self.backbone(images)[-ROI_LEVELS:])
        found = self.head(features)
        chosen = self._chosen_boxes(found, level_sizes(*images.shape[2:]), targets)
        # Where there is nothing to learn all parameters have gradients nevertheless, of 0.
        boxes = [of_picture.boxes for of_picture in chosen]
        classes = np.concatenate([picture.classes[own.owners] for picture, own in zip(targets, chosen)])
        if empty := not len(classes):
            boxes[0], classes = np.float32([[0, 0, 1, 1]]), np.zeros(1, np.int64)
        sizes = [picture.picture for picture in targets]
        rois = box_features(features[:ROI_LEVELS], boxes, sizes, side=self.config.roi.size)
        logits, overlaps = self.roi_head(rois, paddle.to_tensor(classes))
        with paddle.amp.auto_cast(enable=False):
            losses = location_losses(found, targets, self.config.loss)
            if empty:
                return {**losses, "mask": LossSum(nothing(logits), 0), "mask_iou": LossSum(nothing(overlaps), 0)}
            side = 2 * self.config.roi.size
            parts = [mask_targets(own, picture, side=side) for picture, own in zip(targets, chosen)]
            return {**losses, **mask_losses(logits, overlaps, *map(np.concatenate, zip(*parts)))}

    @paddle.no_grad()
    def _chosen_boxes(
        self, found: LocationPredictions, of_levels: Sequence[Size], targets: Sequence[BoxPictureTargets]
    ) -> list[ChosenBoxes]:
        """The boxes of each picture in which masks are learnt, of those that the network finds and the annotated."""
        predictions = zip(*(part.astype("float32").unbind() for part in probabilities_of(found)))
        settings = self.config.roi
        return [
            choose_boxes(
                decode_boxes(*parts, of_levels, self.config.nms, most=settings.train_boxes).boxes, picture, settings
            )
            for parts, picture in zip(predictions, targets)
        ]


def probabilities_of(found: LocationPredictions) -> LocationPredictions:
    """The same with probabilities and centerness in the place of their logits."""
    return LocationPredictions(F.sigmoid(found.logits), F.sigmoid(found.centre_logits), found.distances)


RoIs = Callable[[Tensor, np.ndarray], "tuple[Tensor, Tensor]"]  # what `roi_head` does, its classes an array


@paddle.no_grad()
def detect(raw: Sequence[Tensor], sizes: Sequence[Size], config: Config, rois: RoIs) -> list[Detected]:
    """What is found in each picture of a batch.

    raw: as `CenterMask2.forward` returns it; sizes: height and width of each picture within the network's input.
    """
    *predictions, p3, p4, p5 = raw
    of_levels = level_sizes(*(BOX_STRIDES[0] * side for side in p3.shape[2:]))
    boxes = [
        decode_boxes(*parts, of_levels, config.nms, most=config.nms.max_per_img)
        for parts in zip(*(part.unbind() for part in predictions))
    ]
    ends = np.cumsum([len(found.boxes) for found in boxes])
    masks, overlaps = np.zeros((0, 2 * config.roi.size, 2 * config.roi.size), np.float32), np.zeros(0, np.float32)
    if ends[-1]:
        features = box_features((p3, p4, p5), [found.boxes for found in boxes], sizes, side=config.roi.size)
        logits, estimates = rois(features, np.concatenate([found.classes for found in boxes]))
        masks, overlaps = F.sigmoid(logits).numpy(), estimates.numpy()
    parts = zip(boxes, np.split(masks, ends[:-1]), np.split(overlaps, ends[:-1]))
    return [Detected(found, of_picture, found.scores * estimated) for found, of_picture, estimated in parts]
