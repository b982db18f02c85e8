"""From what locations predict to boxes (Tian et al. 2019): candidates, non-maximum suppression, the best ones.

Needs no Paddle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from config.base import NMSConfig
from config.networks import BOX_STRIDES
from model.arrays import Array

if TYPE_CHECKING:
    from paddle import Tensor

Size = tuple[int, int]  # height, width


class Boxes(NamedTuple):
    """The n boxes found in one picture, in descending order of score; n may be 0."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the network's input; they may end outside of it
    scores: np.ndarray  # float32 [n], geometric mean of probability and centerness
    classes: np.ndarray  # int64 [n], counted from 0

    def select(self, kept: np.ndarray) -> Boxes:
        return Boxes(*(part[kept] for part in self))


class Detected(NamedTuple):
    """The n instances found in one picture, in descending order of box score; n may be 0."""

    boxes: Boxes
    masks: np.ndarray  # float32 [n, 2 size, 2 size], the probability that a cell of the box is inside
    scores: np.ndarray  # float32 [n], of the box, times the estimated IoU of the mask


@lru_cache(maxsize=8)
def locations(sizes: Sequence[Size]) -> tuple[np.ndarray, np.ndarray]:
    """Where the locations of all levels are, float32 [locations, 2], x before y; their strides, float32 [locations].

    sizes: height and width of each level's map.
    """
    places, strides = [], []
    for (height, width), stride in zip(sizes, BOX_STRIDES):
        ys, xs = np.mgrid[:height, :width].reshape(2, -1) * stride + stride // 2
        places.append(np.stack([xs, ys], axis=1))
        strides.append(np.full(height * width, stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def decode_boxes(
    probabilities: Tensor, centerness: Tensor, distances: Tensor, sizes: Sequence[Size], nms: NMSConfig, *, most: int
) -> Boxes:
    """The boxes of a picture, at most `most`.

    probabilities: [locations, classes]; centerness: [locations]; distances: [locations, 4], to the four sides in
    strides; sizes: height and width of each level's map.

    A candidate's probability exceeds `score_thr`; of each level the `nms_pre` best by probability times centerness go
    on, and of two of one class that overlap by more than `iou_thr` the better one.
    """
    found = candidates(probabilities.numpy(), centerness.numpy(), distances.numpy(), sizes, nms)
    return found.select(suppress(found, iou_thr=nms.iou_thr, most=most))


def candidates(
    probabilities: np.ndarray, centerness: np.ndarray, distances: np.ndarray, sizes: Sequence[Size], nms: NMSConfig
) -> Boxes:
    """What enters the suppression; arguments as in `decode_boxes`, as arrays."""
    rows, classes = np.nonzero(probabilities > nms.score_thr)
    products = probabilities[rows, classes] * centerness[rows]
    ends = np.searchsorted(rows, np.cumsum([height * width for height, width in sizes]))
    kept = []
    for start, end in zip([0, *ends], ends):
        best = np.arange(start, end)
        if len(best) > nms.nms_pre:
            best = start + np.argpartition(-products[start:end], nms.nms_pre - 1)[: nms.nms_pre]
        kept.append(best)
    kept = np.concatenate(kept)
    kept = kept[np.argsort(-products[kept], kind="stable")]
    rows, classes, products = rows[kept], classes[kept], products[kept]
    places, strides = locations(sizes)
    reach = distances[rows] * strides[rows, None]
    boxes = np.concatenate([places[rows] - reach[:, :2], places[rows] + reach[:, 2:]], axis=1)
    return Boxes(boxes, np.sqrt(products), classes)


def suppress(found: Boxes, *, iou_thr: float, most: int) -> np.ndarray:
    """Indices of the boxes that no better one of their class overlaps by more than `iou_thr`: the `most` best of them.

    found: in descending order of score, as what is returned.
    """
    kept = []
    left = np.arange(len(found.boxes))
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        rivals = found.classes[left] == found.classes[best]
        rivals[rivals] = ious(found.boxes[best : best + 1], found.boxes[left[rivals]])[0] > iou_thr
        left = left[~rivals]
    return np.array(kept, np.int64)


def ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each box [n, 4] with each box [m, 4]: [n, m]; 0 for boxes without an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return shared / np.maximum(union, 1e-12)


def areas(boxes: Array) -> Array:
    """[n] of boxes [n, 4]."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
