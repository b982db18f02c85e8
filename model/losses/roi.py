"""The losses of CenterMask2's RoI head: masks, and the estimate of their IoU (Lee and Park 2020, Huang et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.networks import RoIConfig
from model.decode.fast_boxes import Size, ious
from model.losses.boxes import BoxPictureTargets, MaskPart
from model.losses.common import LossSum


class ChosenBoxes(NamedTuple):
    """The k boxes of one picture whose masks are trained; k may be 0."""

    boxes: np.ndarray  # float32 [k, 4]
    owners: np.ndarray  # int64 [k], the annotated instance of each


def choose_boxes(predicted: np.ndarray, picture: BoxPictureTargets, config: RoIConfig) -> ChosenBoxes:
    """Choose predicted boxes that overlap an annotated one enough, and the annotated ones: `masks_per_img` at random.

    predicted: float32 [m, 4].
    """
    if not len(picture.boxes):
        return ChosenBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    boxes = np.concatenate([predicted, picture.boxes])
    overlaps = ious(boxes, picture.boxes)
    kept = np.flatnonzero(overlaps.max(axis=1) >= config.foreground_iou)
    if len(kept) > config.masks_per_img:
        kept = np.sort(kept[paddle.randperm(len(kept)).numpy()[: config.masks_per_img]])
    return ChosenBoxes(boxes[kept], overlaps[kept].argmax(axis=1))


def mask_targets(chosen: ChosenBoxes, picture: BoxPictureTargets, *, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the target masks of boxes, bool [k, side, side], and the share of the instance inside each box, [k]."""
    masks = np.zeros((len(chosen.boxes), side, side), bool)
    shares = np.zeros(len(chosen.boxes), np.float32)
    for index, (box, owner) in enumerate(zip(chosen.boxes.tolist(), chosen.owners)):
        masks[index], shares[index] = cut_mask(picture.masks[owner], box, picture.picture, side)
    return masks, shares


def cut_mask(mask: MaskPart, box: Sequence[float], size: Size, side: int) -> tuple[np.ndarray, float]:
    """Return the mask inside a box at side x side, by RoIAlign and a threshold of 0.5, and the share of it in the box.

    size: height and width of the picture.
    """
    pixels = mask.pixels.astype(np.float32)
    axes = ((mask.top, pixels.shape[0], box[1], box[3], size[0]), (mask.left, pixels.shape[1], box[0], box[2], size[1]))
    rows, columns = (_cell_shares(*axis, side) for axis in axes)
    within = [_covered(*axis[:4]) for axis in axes]
    share = within[0] @ pixels @ within[1] / pixels.sum()
    return rows @ pixels @ columns.T >= 0.5, float(np.clip(share, 1e-10, 1))


def _cell_shares(first: int, count: int, low: float, high: float, length: int, cells: int) -> np.ndarray:
    """Return, for one axis of RoIAlign, the weight of each of `count` pixels from `first` on in each cell: [cells,
    count].

    low, high: the sides of the box; length: pixels of the picture. There are as many samples in a cell as it has
    pixels, rounded up.
    """
    samples = max(int(np.ceil((high - low) / cells)), 1)
    places = low - 0.5 + (np.arange(cells * samples) + 0.5) * (high - low) / (cells * samples)
    inside = (places >= -1) & (places <= length)
    places = np.clip(places, 0, length - 1)
    lower = np.floor(places).astype(np.int64)
    matrix = np.zeros((cells, count), np.float32)
    for pixel, weight in ((lower, 1 - (places - lower)), (lower + 1, places - lower)):
        seen = np.flatnonzero(inside & (pixel >= first) & (pixel < first + count))
        flat = seen // samples * count + pixel[seen] - first
        matrix += np.bincount(flat, weight[seen], minlength=cells * count).reshape(cells, count)
    return matrix / samples


def _covered(first: int, count: int, low: float, high: float) -> np.ndarray:
    """Return, for one axis, the share of each of `count` pixels from `first` on between low and high: [count]."""
    places = first + np.arange(count)
    return np.clip(np.minimum(places + 1, high) - np.maximum(places, low), 0, 1).astype(np.float32)


def mask_losses(logits: Tensor, overlaps: Tensor, masks: np.ndarray, shares: np.ndarray) -> dict[str, LossSum]:
    """Return the losses `mask` (cross-entropy) and `mask_iou` (half the squared error), means over boxes.

    logits: [k, side, side]; overlaps: [k], the estimates; masks and shares: of `mask_targets`. Masks with an IoU of 0
    do not train the estimate.
    """
    logits, overlaps = logits.astype("float32"), overlaps.astype("float32")
    wanted = paddle.to_tensor(masks.astype(np.float32))
    mask = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / masks[0].size
    iou = mask_ious(logits.numpy() > 0, masks, shares)
    counted = paddle.to_tensor((iou > 0).astype(np.float32))
    error = 0.5 * (((overlaps - paddle.to_tensor(iou)) ** 2) * counted).sum()
    return {"mask": LossSum(mask, len(masks)), "mask_iou": LossSum(error, int((iou > 0).sum()))}


def mask_ious(predicted: np.ndarray, masks: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the IoU of predicted and target masks, float32 [k]. predicted, masks: bool [k, side, side].

    shares: as of `mask_targets`; they make the part of an instance outside its box count.
    """
    shared, area, wanted = (each.sum(axis=(1, 2)).astype(np.float32) for each in (predicted & masks, predicted, masks))
    return shared / np.maximum(area + wanted / shares - shared, 1)
