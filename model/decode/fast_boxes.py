"""The fast decoder of CenterMask2's boxes (FCOS, Tian et al. 2019) for CPUs: the results of `plain_boxes.py`, in
numpy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from config.base import NMSConfig
from config.networks import BOX_STRIDES

Size = tuple[int, int]  # height, width


class Boxes(NamedTuple):
    """n boxes of one picture, sorted by score, highest first; n may be 0."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the network's input; may end outside of it
    scores: np.ndarray  # float32 [n], geometric mean of probability and centerness
    classes: np.ndarray  # int64 [n], counted from 0

    def select(self, kept: np.ndarray) -> Boxes:
        return Boxes(*(part[kept] for part in self))


def decode_boxes(
    probabilities: np.ndarray,
    centerness: np.ndarray,
    distances: np.ndarray,
    sizes: Sequence[Size],
    nms: NMSConfig,
    *,
    limit: int,
) -> Boxes:
    """Return the boxes of one picture, at most `limit`.

    probabilities: float32 [locations, classes]; centerness: [locations]; distances: [locations, 4], to the four sides
    in strides; sizes: height and width of each level's map.

    A candidate's probability exceeds `score_thr`. The `nms_pre` best of each level by probability times centerness are
    compared; of two boxes of one class that overlap by more than `iou_thr` the better one stays.
    """
    candidates = find_candidates(probabilities, centerness, distances, sizes, nms)
    return candidates.select(suppress(candidates, iou_thr=nms.iou_thr, limit=limit))


def find_candidates(
    probabilities: np.ndarray, centerness: np.ndarray, distances: np.ndarray, sizes: Sequence[Size], nms: NMSConfig
) -> Boxes:
    """Return the boxes that enter the suppression; arguments as in `decode_boxes`."""
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


@lru_cache(maxsize=8)
def locations(sizes: Sequence[Size]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the locations of all levels, float32 [locations, 2], and their strides, float32 [locations].

    sizes: height and width of each level's map.
    """
    places, strides = [], []
    for (height, width), stride in zip(sizes, BOX_STRIDES):
        ys, xs = np.mgrid[:height, :width].reshape(2, -1) * stride + stride // 2
        places.append(np.stack([xs, ys], axis=1))
        strides.append(np.full(height * width, stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def suppress(candidates: Boxes, *, iou_thr: float, limit: int) -> np.ndarray:
    """Return indices of the boxes, best first, that no better one of their class overlaps by more than `iou_thr`.

    candidates: sorted by score, highest first. At most `limit` indices, int64.
    """
    kept: list[int] = []
    left = np.arange(len(candidates.boxes))
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(best)
        rivals = candidates.classes[left] == candidates.classes[best]
        rivals[rivals] = ious(candidates.boxes[best : best + 1], candidates.boxes[left[rivals]])[0] > iou_thr
        left = left[~rivals]
    return np.array(kept, np.int64)


def ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes [n, 4] with boxes [m, 4]: [n, m]; 0 for boxes without an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return shared / np.maximum(union, 1e-12)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes [n, 4]: [n]."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
