"""From decoded masks to the instances of a picture at its own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.preprocess import truncated_size
from model.decode.decoded import Decoded
from model.decode.windows import WindowedMaps
from tools.common.kinds import kind_of
from tools.predict.instances import Instances, NetworkBoxes
from tools.predict.mask_windows import MaskCrop, Size, masks_at_picture_size, masks_in_boxes, tight_crop

if TYPE_CHECKING:
    from paddle import Tensor


def to_instances(
    decoded: Decoded, config: Config, classes: ClassList, *, score: float, resized: Size, original: Size
) -> Instances:
    """Return the instances of a picture that have at least this score.

    resized: height and width of the picture within the padded input; original: of the picture itself.
    """
    if config.data.crop_masks == "truncated":
        resized = truncated_size(*original, config.data)
    if decoded.boxes is None:
        shown = slice(int((decoded.scores >= score).sum()))  # sorted by score
        crops, boxes = _enlarge(decoded.masks[shown], config, resized, original), None
    else:
        shown, crops, boxes = _paste(decoded, config, score, resized, original)
    scores, labels = decoded.scores[shown], decoded.classes[shown]
    return Instances.from_crops(
        original, crops, scores, labels, classes.names, classes.ids, boxes, stretch=config.data.stretch
    )


def _enlarge(
    masks: np.ndarray | WindowedMaps | Tensor, config: Config, resized: Size, original: Size
) -> list[MaskCrop]:
    """Enlarge masks of the padded input: arrays on a CPU, tensors on a GPU."""
    threshold, stride = config.nms.mask_thr, kind_of(config).mask_strides(config)[0]
    if isinstance(masks, (np.ndarray, WindowedMaps)):
        return masks_at_picture_size(masks, stride=stride, resized=resized, original=original, threshold=threshold)
    from model.decode.plain import enlarge_masks  # needs Paddle, which exported networks do not

    enlarged = enlarge_masks(masks, stride=stride, resized=resized, original=original, threshold=threshold)
    return [tight_crop(MaskCrop(0, 0, np.asfortranarray(mask))) for mask in enlarged]


def _paste(
    decoded: Decoded, config: Config, score: float, resized: Size, original: Size
) -> tuple[np.ndarray, list[MaskCrop], NetworkBoxes]:
    """Paste masks into their boxes; boxes without an area in the picture are left out.

    An estimated IoU may be below 0, and then so is the score; with `score` 0 such instances are kept.
    """
    assert decoded.boxes is not None and decoded.box_scores is not None  # a network has both or neither
    scales = np.float32([original[1] / resized[1], original[0] / resized[0]] * 2)
    boxes = np.clip(decoded.boxes * scales, 0, np.float32([original[1], original[0]] * 2))
    shown = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (np.maximum(decoded.scores, 0) >= score)
    threshold = config.nms.mask_thr
    crops = masks_in_boxes(decoded.masks[shown], boxes[shown], original=original, threshold=threshold)
    return shown, crops, NetworkBoxes(boxes[shown], decoded.box_scores[shown])


def decode_exported(raw: Sequence[np.ndarray], index: int, config: Config) -> Decoded:
    """Return the instances of a graph with decoding inside, whose outputs `NetworkKind.instance_outputs` lists.

    Raises InputError for a class that the config does not have, and for a count of more rows than there are.
    """
    masks, scores, classes, (count,), *box_outputs = raw
    if not 0 <= count <= len(classes) or not np.isin(classes[:count], np.arange(config.num_classes)).all():
        raise InputError(
            f"the network gives {count} instances of the classes {np.unique(classes[: max(count, 0)]).tolist()}, and "
            f"has {config.num_classes} classes and {len(classes)} rows; its outputs are damaged, or its export had "
            "another class list"
        )
    if not box_outputs:
        return Decoded(masks[:count], scores[:count], classes[:count])
    boxes, box_masks, box_scores = box_outputs
    return Decoded(box_masks[:count], scores[:count], classes[:count], boxes[:count], box_scores[:count])
