"""The losses of CenterMask2's locations (FCOS, Tian et al. 2019): classes, boxes and centerness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import LossConfig
from model.head.fcos import LocationPredictions
from model.losses.common import LossSum, focal_loss, zero_loss


class MaskPart(NamedTuple):
    """A mask as its part inside a window; outside it is 0."""

    top: int
    left: int
    pixels: np.ndarray  # uint8 [h, w], 1 inside the instance


class BoxPictureTargets(NamedTuple):
    """The targets of one picture; data/box_targets.py describes them.

    Locations are tensors; instances stay arrays, because boxes are chosen and masks are cut on the host.
    """

    labels: Tensor  # int64 [locations]
    places: Tensor  # int64 [p], the locations that have a class
    distances: Tensor  # float32 [p, 4]
    centerness: Tensor  # float32 [p]
    positives: int  # p
    centerness_sum: float
    boxes: np.ndarray  # float32 [n, 4]
    classes: np.ndarray  # int64 [n]
    masks: Sequence[MaskPart]  # n
    picture: tuple[int, int]  # height and width of the picture within the network's input


def location_losses(
    predictions: LocationPredictions, targets: Sequence[BoxPictureTargets], config: LossConfig
) -> dict[str, LossSum]:
    """Return the losses `category` (focal), `box` (GIoU, Rezatofighi et al. 2019) and `centerness`.

    The first and the last are divided by the number of locations with a class, the box by their targets' centerness.
    """
    labels = paddle.concat([picture.labels for picture in targets])
    logits = predictions.logits.astype("float32").flatten(stop_axis=1)
    category = focal_loss(logits, labels, gamma=config.focal_gamma, alpha=config.focal_alpha)
    positives = sum(picture.positives for picture in targets)
    if positives:
        count = predictions.logits.shape[1]
        places = paddle.concat([picture.places + index * count for index, picture in enumerate(targets)])
        distances, centerness = (
            paddle.concat(parts)
            for parts in zip(*((picture.distances, picture.centerness) for picture in targets if picture.positives))
        )
        of_boxes = predictions.distances.astype("float32").flatten(stop_axis=1).gather(places)
        of_centres = predictions.centre_logits.astype("float32").flatten().gather(places)
        box = ((1 - generalized_iou(of_boxes, distances)) * centerness).sum()
        centre = F.binary_cross_entropy_with_logits(of_centres, centerness, reduction="sum")
    else:
        box, centre = zero_loss(predictions.distances), zero_loss(predictions.centre_logits)
    return {
        "category": LossSum(category, positives),
        "box": LossSum(box, sum(picture.centerness_sum for picture in targets), least=1e-6),
        "centerness": LossSum(centre, positives),
    }


def generalized_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the generalized IoU of p pairs of boxes around a location, [p], given the distances of their sides [p, 4].

    As in the original program the IoU is (intersection + 1) / (union + 1) in square strides, and the share of the
    smallest box around both that neither covers is taken off it.
    """
    boxes = paddle.minimum(predicted, target), paddle.maximum(predicted, target), predicted, target
    shared, around, area, target_area = (
        (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])  # not `prod`, whose gradient divides by its factors
        for sides in boxes
    )
    union = area + target_area - shared
    return (shared + 1) / (union + 1) - (around - union) / around
