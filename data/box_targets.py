"""Which location of which level learns which box (Tian et al. 2019, with the centre sampling of their later work)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config.base import TargetConfig, level_ranges
from config.networks import BOX_STRIDES, level_sizes
from data.samples import MaskWindow

NO_CLASS = -1


class BoxTargets(NamedTuple):
    """What one picture teaches. Locations are counted through all levels, row by row, as in the raw predictions."""

    labels: np.ndarray  # int64 [locations], 0-based class of each location, -1 where it has none
    # float32 [p, 4], for the p locations with a class in their order: how far the left, upper, right and lower side of
    # the box is away, in strides of the level; above 0.
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
    """The targets of one picture.

    masks: n, each with at least one pixel. boxes: [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
    classes: int64 [n], 0-based. picture: height and width of the picture; size: of the padded batch.

    A location learns the smallest of the boxes whose centre it is near and whose farthest side is within the range of
    its level; of equals the first.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(sides.prod(axis=1), kind="stable")[::-1]  # what comes later replaces what was there
    labels, distances = [], []
    for sizes, stride, limits in zip(level_sizes(*size), BOX_STRIDES, level_ranges(config.scale_ranges)):
        of_level = np.full(sizes, NO_CLASS, np.int64)
        reach = np.zeros((*sizes, 4), np.float32)
        for index in order:
            block, around = _centre_block(boxes[index], sizes, stride, config.centre_radius)
            farthest = around.max(axis=2)
            fits = (limits[0] <= farthest) & (farthest <= limits[1])
            of_level[block][fits] = classes[index]
            reach[block][fits] = around[fits] / stride
        labels.append(of_level.ravel())
        distances.append(reach[of_level >= 0])
    return BoxTargets(np.concatenate(labels), np.concatenate(distances), boxes, classes, tuple(masks), picture)


def _centre_block(
    box: np.ndarray, sizes: tuple[int, int], stride: int, radius: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The block of a level's locations, within the box, that are less than `radius` strides away from its centre.

    Returns it as slices, and the distances to the four sides in pixels, float32 [rows, columns, 4].
    """
    ranges, sides = [], []
    for axis, count in ((1, sizes[0]), (0, sizes[1])):
        low, high = box[axis], box[axis + 2]
        centre, far = (low + high) / 2, np.float32(radius * stride)
        places = np.arange(count, dtype=np.float32) * stride + stride // 2
        near = np.flatnonzero((places > max(centre - far, low)) & (places < min(centre + far, high)))
        ranges.append(slice(near[0], near[-1] + 1) if len(near) else slice(0, 0))
        sides.append((places[near] - low, high - places[near]))
    (top, bottom), (left, right) = sides
    around = np.broadcast_arrays(left[None], top[:, None], right[None], bottom[:, None])
    return tuple(ranges), np.stack(around, axis=2)


def centerness_of(distances: np.ndarray) -> np.ndarray:
    """float32 [p], 1 in the middle of a box and 0 at its sides; distances: [p, 4], above 0."""
    opposite = distances.reshape(-1, 2, 2)  # [p, first or second side, x or y]
    return np.sqrt((opposite.min(axis=1) / opposite.max(axis=1)).prod(axis=1))
