"""Assign boxes to the locations of each level, as FCOS (Tian et al. 2019) with the centre sampling of its successor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config.base import TargetConfig, level_ranges
from config.networks import BOX_STRIDES, level_sizes
from data.samples import MaskWindow

NO_CLASS = -1


class BoxTargets(NamedTuple):
    """Training targets of one picture. Locations are numbered level by level, row by row, as in the raw predictions."""

    labels: np.ndarray  # int64 [locations], 0-based class of each location, NO_CLASS where it has none
    # float32 [p, 4], for the p locations with a class, in order: distances to the left, upper, right and lower side of
    # the box, in strides of the level; above 0.
    distances: np.ndarray
    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the network's input
    classes: np.ndarray  # int64 [n]
    masks: tuple[MaskWindow, ...]  # n
    picture: tuple[int, int]  # height and width of the picture within the network's input


def box_targets(
    masks: Sequence[MaskWindow],
    boxes: np.ndarray,
    classes: np.ndarray,
    *,
    picture: tuple[int, int],
    size: tuple[int, int],
    config: TargetConfig,
) -> BoxTargets:
    """Return the training targets of one picture.

    masks: n, each with at least one pixel. boxes: [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
    classes: int64 [n], 0-based. picture: height and width of the picture; size: of the padded batch.

    Candidates of a location are the boxes whose centre is within `centre_radius` and whose most distant side is within
    the range of the level. It learns the candidate with the smallest area, the first of equal ones.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(sides.prod(axis=1), kind="stable")[::-1]  # largest first, so that smaller boxes overwrite
    all_labels, all_distances = [], []
    for shape, stride, (low, high) in zip(level_sizes(*size), BOX_STRIDES, level_ranges(config.scale_ranges)):
        labels = np.full(shape, NO_CLASS, np.int64)
        distances = np.zeros((*shape, 4), np.float32)
        for index in order:
            block, to_sides = _centre_block(boxes[index], shape, stride, config.centre_radius)
            longest = to_sides.max(axis=2)
            fits = (low <= longest) & (longest <= high)
            labels[block][fits] = classes[index]
            distances[block][fits] = to_sides[fits] / stride
        all_labels.append(labels.ravel())
        all_distances.append(distances[labels >= 0])
    return BoxTargets(np.concatenate(all_labels), np.concatenate(all_distances), boxes, classes, tuple(masks), picture)


def _centre_block(
    box: np.ndarray, shape: tuple[int, int], stride: int, radius: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Find a level's locations inside the box that are less than `radius` strides from its centre, per axis.

    Returns them as slices of rows and columns, and their distances to the left, upper, right and lower side in pixels,
    float32 [rows, columns, 4].
    """
    slices, distances = [], []
    for axis, count in ((1, shape[0]), (0, shape[1])):
        low, high = box[axis], box[axis + 2]
        centre, reach = (low + high) / 2, np.float32(radius * stride)
        positions = np.arange(count, dtype=np.float32) * stride + stride // 2
        inside = np.flatnonzero((positions > max(centre - reach, low)) & (positions < min(centre + reach, high)))
        slices.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0))
        distances.append((positions[inside] - low, high - positions[inside]))
    (top, bottom), (left, right) = distances
    to_sides = np.broadcast_arrays(left[None], top[:, None], right[None], bottom[:, None])
    return (slices[0], slices[1]), np.stack(to_sides, axis=2)


def centerness_of(distances: np.ndarray) -> np.ndarray:
    """Return the centerness of locations, float32 [p]: 1 in the middle of the box, towards 0 at its sides.

    distances: [p, 4] to the left, upper, right and lower side, above 0.
    """
    opposite = distances.reshape(-1, 2, 2)  # [p, first or second side, x or y]
    return np.sqrt((opposite.min(axis=1) / opposite.max(axis=1)).prod(axis=1))
