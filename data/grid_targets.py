"""Which cell of which level learns which instance (Wang et al. 2019, section 3.3.1; Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from config.base import HeadConfig, TargetConfig, level_ranges
from data.samples import MaskWindow

FINEST_STRIDE = 4  # pixels of the input to one of the finest mask targets
INSIDE = 16  # value of a mask target's pixel that lies inside the instance
NO_CLASS = -1


class Extents(NamedTuple):
    """What decides which cells learn n instances."""

    centres: np.ndarray  # float64 [n, 2], `centre_of_mass` of each mask
    sides: np.ndarray  # float64 [n, 2], `box_sides` of each box
    areas: np.ndarray  # float64 [n], pixels of each mask


class CellBlock(NamedTuple):
    """The cells of one level that learn one instance. Cells are counted through all levels, row by row."""

    level: int
    instance: int
    centre: int  # the cell that the centre of mass lies in
    cells: np.ndarray  # int64 [1 to 9], `centre` among them


class GridTargets(NamedTuple):
    """What one picture teaches. Cells are counted through all levels, row by row, as in the raw predictions.

    An instance has one mask of each size, however many cells predict it; a cell may have to predict several.
    """

    labels: np.ndarray  # int64 [cells], 0-based class of each cell, -1 where it has none
    # By stride, of which levels may have different ones: uint8 [n, H / stride, W / stride], sixteenths, that is 0
    # outside of the instance and 16 inside.
    masks: dict[int, np.ndarray]
    cells: np.ndarray  # int64 [p] cell of each (cell, instance) pair, level by level
    rows: np.ndarray  # int64 [p] instance of each pair, a row of the masks of its level's stride
    level_pairs: tuple[int, ...]  # how many of the p pairs are those of each level


def grid_targets(
    masks: Sequence[MaskWindow],
    boxes: np.ndarray,
    classes: np.ndarray,
    *,
    size: tuple[int, int],
    head: HeadConfig,
    config: TargetConfig,
) -> GridTargets:
    """The targets of one picture.

    masks: n, each with at least one pixel. boxes: [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
    classes: int64 [n], 0-based. size: height and width of the padded batch, multiples of the largest mask stride.

    As the original programs: where instances share a cell, the later one gives it its class. In SOLOv2 it learns the
    masks of both, in SOLO and Decoupled SOLO that of the later one.
    """
    labels = np.full(sum(grid * grid for grid in head.num_grids), NO_CLASS, np.int64)
    used: dict[int, dict[int, int]] = {stride: {} for stride in head.mask_strides}  # instance -> row of the masks
    blocks = assign_cells(measure_extents(masks, boxes, config), size=size, head=head, config=config)
    own_rows = []  # of each block
    for block in blocks:
        labels[block.cells] = classes[block.instance]
        rows_of = used[head.mask_strides[block.level]]
        own_rows.append(rows_of.setdefault(block.instance, len(rows_of)))
    counts = [len(block.cells) for block in blocks]
    cells = np.concatenate([block.cells for block in blocks]) if blocks else np.zeros(0, np.int64)
    rows, levels = (
        np.repeat(np.array(values, np.int64), counts) for values in (own_rows, [block.level for block in blocks])
    )
    small = {
        stride: _shrink_masks([masks[index] for index in instances], stride, size, soft=config.soft_masks)
        for stride, instances in used.items()
    }
    kept = np.ones(len(cells), bool) if head.kind == "solov2" else _mark_last_of_each(cells)
    if config.skip_empty_masks:
        strides = np.array(head.mask_strides)[levels]
        for stride, of_stride in small.items():
            here = strides == stride
            kept[here] &= of_stride.any(axis=(1, 2))[rows[here]]
    level_pairs = np.bincount(levels[kept], minlength=len(head.num_grids))
    return GridTargets(labels, small, cells[kept], rows[kept], tuple(level_pairs.tolist()))


def _mark_last_of_each(values: np.ndarray) -> np.ndarray:
    """bool [n], true for the last of equal values."""
    last = np.zeros(len(values), bool)
    last[len(values) - 1 - np.unique(values[::-1], return_index=True)[1]] = True
    return last


def _shrink_masks(masks: Sequence[MaskWindow], stride: int, size: tuple[int, int], *, soft: bool) -> np.ndarray:
    """uint8 [n, H / stride, W / stride] in sixteenths."""
    whole = np.zeros((len(masks), size[0] // stride, size[1] // stride), np.uint8)
    for target, mask in zip(whole, masks):
        small = shrink_mask(mask, stride, soft=soft)
        target[small.top : small.bottom, small.left : small.right] = small.pixels
    return whole


def assign_cells(extents: Extents, *, size: tuple[int, int], head: HeadConfig, config: TargetConfig) -> list[CellBlock]:
    """Which cells learn which of n instances: level by level, and there in the order of the instances.

    size: as in `grid_targets`.
    """
    centres, sides, areas = extents
    scales, halves = box_scales(sides), sides * config.centre_fraction / 2
    large = areas >= config.min_area
    # The centre, and both ends of the central part, as shares of the picture: [3, n, 2].
    places = np.stack([centres, centres - halves, centres + halves]) / (size[1], size[0])
    blocks = []
    first_cell = 0
    for level, (grid, (low, high)) in enumerate(zip(head.num_grids, level_ranges(config.scale_ranges))):
        middles, firsts, lasts = np.floor_divide(places, 1 / grid).astype(int)
        # All that the central part touches, at most one cell to each side of the centre's own.
        firsts = np.maximum(firsts, np.maximum(middles - 1, 0))
        stops = np.minimum(lasts, np.minimum(middles + 1, grid - 1)) + 1
        for index in np.flatnonzero(large & (scales >= low) & (scales <= high)).tolist():
            (left, top), (right, bottom), (column, line) = (ends[index].tolist() for ends in (firsts, stops, middles))
            cells = (first_cell + np.arange(top, bottom)[:, None] * grid + np.arange(left, right)).ravel()
            blocks.append(CellBlock(level, index, first_cell + line * grid + column, cells))
        first_cell += grid * grid
    return blocks


def box_sides(boxes: np.ndarray, config: TargetConfig) -> np.ndarray:
    """float64 [n, 2], width and height in pixels of boxes [n, 4], as the levels are chosen by them."""
    boxes = np.asarray(boxes, np.float64)
    return np.maximum(boxes[:, 2:] - boxes[:, :2] - config.box_border, 0)


def box_scales(sides: np.ndarray) -> np.ndarray:
    """float64 [n], what is compared with `scale_ranges`, in pixels."""
    return np.sqrt(sides.prod(axis=1))


def measure_extents(masks: Sequence[MaskWindow], boxes: np.ndarray, config: TargetConfig) -> Extents:
    """masks, boxes: as in `grid_targets`."""
    places = np.array([_centre_and_area(mask) for mask in masks]).reshape(-1, 3)
    return Extents(places[:, :2], box_sides(boxes, config), places[:, 2])


def centre_of_mass(mask: MaskWindow) -> tuple[float, float]:
    """x, y in pixels of the picture; the centre of the first pixel is 0."""
    return _centre_and_area(mask)[:2]


def _centre_and_area(mask: MaskWindow) -> tuple[float, float, float]:
    moments = cv2.moments(mask.pixels, binaryImage=True)  # sums of whole numbers, which are exact
    area = moments["m00"]
    return mask.left + moments["m10"] / area, mask.top + moments["m01"] / area, area


def shrink_mask(mask: MaskWindow, stride: int, *, soft: bool) -> MaskWindow:
    """A mask of at least one pixel at 1 / stride of its size, in sixteenths: 0 outside of the instance, 16 inside.

    soft: the share of pixels inside of each stride x stride, to the nearest sixteenth. Otherwise, as cv2's bilinear
    resize of bytes does, all or nothing by the four in the middle, of which two are enough.
    """
    top, left = mask.top // stride, mask.left // stride
    bottom, right = -(-mask.bottom // stride), -(-mask.right // stride)
    aligned = np.zeros(((bottom - top) * stride, (right - left) * stride), np.uint8)
    y, x = mask.top - top * stride, mask.left - left * stride
    aligned[y : y + mask.pixels.shape[0], x : x + mask.pixels.shape[1]] = mask.pixels
    counted = range(stride) if soft else (stride // 2 - 1, stride // 2)
    columns = reduce(np.add, [aligned[:, offset::stride] for offset in counted])
    if stride > FINEST_STRIDE and soft:
        columns = columns.astype(np.uint16)  # up to the square of the stride are counted, and times 16
    counts = reduce(np.add, [columns[offset::stride] for offset in counted])
    if not soft:
        return MaskWindow(top, left, (counts >= 2) * np.uint8(INSIDE))
    if stride > FINEST_STRIDE:
        counts = ((counts * INSIDE + stride**2 // 2) // stride**2).astype(np.uint8)
    return MaskWindow(top, left, counts)
