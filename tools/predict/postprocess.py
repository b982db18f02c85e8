"""From raw predictions to what was found in a picture, at its size: where the kinds of networks part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple

import numpy as np

from config.base import Config
from model.decoding import Raw, decode
from model.head.box_decode import Boxes, Detected
from model.head.decode import Decoded
from tools.predict.instances import DetectedBoxes
from tools.predict.mask_windows import Size, Window, masks_at_picture_size, masks_in_boxes


class Findings(NamedTuple):
    """The n instances of a picture; n may be 0."""

    windows: Iterable[Window]  # n, the part of each mask that is not 0
    scores: np.ndarray  # float32 [n], descending where no boxes were found first
    classes: np.ndarray  # int64 [n], counted from 0
    detected: DetectedBoxes | None = None  # what the masks were made in, where boxes were found first


def find(
    raw: Raw | Sequence[Detected],
    index: int,
    config: Config,
    score: float,
    *,
    resized: Size,
    original: Size,
    parallel: Callable[..., Iterable] = map,
) -> Findings:
    """The instances of picture `index` of a batch that have at least this score.

    raw: what networks of the SOLO family return, or what `model.centermask2.detect` made of what CenterMask2 returns.
    resized: height and width of the picture within the padded input; original: of the picture itself. parallel: `map`,
    or that of a pool of threads.
    """
    if config.head.finds_boxes:
        return _in_boxes(raw[index], config, score, resized, original, parallel)
    decoded = decode(raw, index, config.head, config.nms, parallel)
    return _in_picture(decoded, config, score, resized, original, parallel)


def find_decoded(
    raw: Raw,
    index: int,
    config: Config,
    score: float,
    *,
    resized: Size,
    original: Size,
    parallel: Callable[..., Iterable] = map,
) -> Findings:
    """The same from what a graph gives that decodes by itself, of one picture; see `model.networks.END_TO_END`."""
    masks, scores, classes, (count,), *of_boxes = raw
    if of_boxes:
        boxes, soft_masks, box_scores = (part[:count] for part in of_boxes)
        found = Detected(Boxes(boxes, box_scores, classes[:count]), soft_masks, scores[:count])
        return _in_boxes(found, config, score, resized, original, parallel)
    decoded = Decoded(masks[:count], scores[:count], classes[:count])
    return _in_picture(decoded, config, score, resized, original, parallel)


def _in_picture(
    decoded: Decoded, config: Config, score: float, resized: Size, original: Size, parallel: Callable[..., Iterable]
) -> Findings:
    shown = int((decoded.scores >= score).sum())  # they stand in descending order
    windows = masks_at_picture_size(
        decoded.soft_masks[:shown],
        resized=resized,
        original=original,
        threshold=config.nms.mask_thr,
        parallel=parallel,
    )
    return Findings(windows, decoded.scores[:shown], decoded.classes[:shown])


def _in_boxes(
    found: Detected, config: Config, score: float, resized: Size, original: Size, parallel: Callable[..., Iterable]
) -> Findings:
    """The score of an instance is that of its box times the estimated IoU of its mask; the order is that of boxes.

    An estimate may be below 0, which is no reason to lose the box where all instances are asked for.
    """
    scales = np.float32([original[1] / resized[1], original[0] / resized[0]] * 2)
    boxes = np.clip(found.boxes.boxes * scales, 0, np.float32([original[1], original[0]] * 2))
    shown = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (np.maximum(found.scores, 0) >= score)
    windows = masks_in_boxes(
        found.masks[shown], boxes[shown], original=original, threshold=config.nms.mask_thr, parallel=parallel
    )
    detected = DetectedBoxes(boxes[shown], found.boxes.scores[shown])
    return Findings(windows, found.scores[shown], found.boxes.classes[shown], detected)
