"""Assign instances to the grid cells of each level (Wang et al. 2019, section 3.3.1; Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from config.base import HeadConfig, TargetConfig, level_ranges
from data.samples import MaskWindow

INSIDE = 16  # value of a mask target's pixel inside the instance
NO_CLASS = -1  # label of a cell that learns no instance


class Extents(NamedTuple):
    """The measures of n instances that determine their cells."""

    centres: np.ndarray  # float64 [n, 2], `centre_of_mass` of each mask
    sides: np.ndarray  # float64 [n, 2], `box_sides` of each box
    areas: np.ndarray  # float64 [n], number of pixels of each mask


class CellBlock(NamedTuple):
    """The cells of one level that learn one instance. Cells are numbered level by level, row by row."""

    level: int
    instance: int
    centre: int  # the cell that contains the centre of mass
    cells: np.ndarray  # int64 [1 to 9], including `centre`


class GridTargets(NamedTuple):
    """Training targets of one picture. Cells are numbered level by level, row by row, as in the raw predictions.

    An instance has one mask per stride, however many cells predict it. In SOLOv2 a cell may predict several instances.
    """

    labels: np.ndarray  # int64 [cells], 0-based class of each cell, NO_CLASS where it has none
    masks: dict[int, np.ndarray]  # stride -> uint8 [n, H / stride, W / stride], 0 outside to INSIDE
    cells: np.ndarray  # int64 [p], the cell of each (cell, instance) pair, level by level
    mask_rows: np.ndarray  # int64 [p], the instance of each pair, as row of the masks of its level's stride
    level_pairs: tuple[int, ...]  # number of pairs of each level; the sum is p


def grid_targets(
    masks: Sequence[MaskWindow],
    boxes: np.ndarray,
    classes: np.ndarray,
    *,
    size: tuple[int, int],
    head: HeadConfig,
    config: TargetConfig,
    mask_strides: Sequence[int],
    shares_cells: bool,
) -> GridTargets:
    """Return the training targets of one picture.

    masks: n, each with at least one pixel. boxes: [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
    classes: int64 [n], 0-based. size: height and width of the padded batch, multiples of the largest mask stride.

    mask_strides: pixels of the input per pixel of a target mask, for each level.
    shares_cells: a cell shared by several instances learns the masks of all of them, as in SOLOv2, not the mask of the
    last one, as in SOLO and Decoupled SOLO. As in the original programs, it has the class of the last one.
    """
    labels = np.full(sum(grid * grid for grid in head.num_grids), NO_CLASS, np.int64)
    # For each stride, the row of each instance among the mask targets.
    instance_rows: dict[int, dict[int, int]] = {stride: {} for stride in mask_strides[: len(head.num_grids)]}
    blocks = assign_cells(measure_extents(masks, boxes, config), size=size, head=head, config=config)
    block_rows, block_levels = [], []
    for block in blocks:
        labels[block.cells] = classes[block.instance]
        rows_of_stride = instance_rows[mask_strides[block.level]]
        block_rows.append(rows_of_stride.setdefault(block.instance, len(rows_of_stride)))
        block_levels.append(block.level)
    counts = [len(block.cells) for block in blocks]
    cells = np.concatenate([block.cells for block in blocks]) if blocks else np.zeros(0, np.int64)
    mask_rows = np.repeat(np.array(block_rows, np.int64), counts)
    levels = np.repeat(np.array(block_levels, np.int64), counts)
    mask_targets = {
        stride: _shrink_masks([masks[index] for index in instances], stride, size, soft=config.soft_masks)
        for stride, instances in instance_rows.items()
    }
    kept = np.ones(len(cells), bool) if shares_cells else _mark_last_of_each(cells)
    if config.skip_empty_masks:
        kept &= _has_pixels(mask_targets, mask_rows, strides=np.array(mask_strides)[levels])
    level_pairs = np.bincount(levels[kept], minlength=len(head.num_grids))
    return GridTargets(labels, mask_targets, cells[kept], mask_rows[kept], tuple(level_pairs.tolist()))


def _has_pixels(mask_targets: dict[int, np.ndarray], mask_rows: np.ndarray, *, strides: np.ndarray) -> np.ndarray:
    """Return whether the mask target of each pair has a pixel: bool [p]; mask_rows, strides: int64 [p] of each pair."""
    result = np.empty(len(mask_rows), bool)
    for stride, targets in mask_targets.items():
        of_stride = strides == stride
        result[of_stride] = targets.any(axis=(1, 2))[mask_rows[of_stride]]
    return result


def _mark_last_of_each(values: np.ndarray) -> np.ndarray:
    """Return a mask, bool [n], that is true for the last of equal values."""
    last = np.zeros(len(values), bool)
    last[len(values) - 1 - np.unique(values[::-1], return_index=True)[1]] = True
    return last


def _shrink_masks(masks: Sequence[MaskWindow], stride: int, size: tuple[int, int], *, soft: bool) -> np.ndarray:
    """Return mask targets of the size of the padded batch: uint8 [n, H / stride, W / stride], 0 to INSIDE."""
    targets = np.zeros((len(masks), size[0] // stride, size[1] // stride), np.uint8)
    for target, mask in zip(targets, masks):
        small = shrink_mask(mask, stride, soft=soft)
        target[small.top : small.bottom, small.left : small.right] = small.pixels
    return targets


def assign_cells(extents: Extents, *, size: tuple[int, int], head: HeadConfig, config: TargetConfig) -> list[CellBlock]:
    """Assign n instances to cells: level by level, and within a level in the order of the instances.

    An instance is assigned to each level whose scale range contains its scale, there to the cells that its central part
    touches, at most 3 x 3 around its centre of mass. size: height and width of the padded batch.
    """
    centres, sides, areas = extents
    scales, halves = box_scales(sides), sides * config.centre_fraction / 2
    is_large = areas >= config.min_area
    # The centre and both ends of the central part, as fractions of the padded size: [3, n, 2].
    points = np.stack([centres, centres - halves, centres + halves]) / (size[1], size[0])
    blocks = []
    first_cell = 0
    for level, (grid, (low, high)) in enumerate(zip(head.num_grids, level_ranges(config.scale_ranges))):
        middles, firsts, lasts = np.floor_divide(points, 1 / grid).astype(int)
        firsts = np.maximum(firsts, np.maximum(middles - 1, 0))
        stops = np.minimum(lasts, np.minimum(middles + 1, grid - 1)) + 1
        for index in np.flatnonzero(is_large & (scales >= low) & (scales <= high)).tolist():
            (left, top), (right, bottom), (column, row) = (ends[index].tolist() for ends in (firsts, stops, middles))
            cells = (first_cell + np.arange(top, bottom)[:, None] * grid + np.arange(left, right)).ravel()
            blocks.append(CellBlock(level, index, first_cell + row * grid + column, cells))
        first_cell += grid * grid
    return blocks


def box_sides(boxes: np.ndarray, config: TargetConfig) -> np.ndarray:
    """Return width and height in pixels of boxes [n, 4], less the configured border: float64 [n, 2]."""
    boxes = np.asarray(boxes, np.float64)
    return np.maximum(boxes[:, 2:] - boxes[:, :2] - config.box_border, 0)


def box_scales(sides: np.ndarray) -> np.ndarray:
    """Return the scale that is compared with `scale_ranges`, the square root of the box's area: float64 [n], pixels."""
    return np.sqrt(sides.prod(axis=1))


def measure_extents(masks: Sequence[MaskWindow], boxes: np.ndarray, config: TargetConfig) -> Extents:
    """Measure instances for `assign_cells`; masks, boxes: as in `grid_targets`."""
    centres_and_areas = np.array([_centre_and_area(mask) for mask in masks]).reshape(-1, 3)
    return Extents(centres_and_areas[:, :2], box_sides(boxes, config), centres_and_areas[:, 2])


def centre_of_mass(mask: MaskWindow) -> tuple[float, float]:
    """Return x, y in pixels of the picture; the centre of the first pixel is 0."""
    return _centre_and_area(mask)[:2]


def _centre_and_area(mask: MaskWindow) -> tuple[float, float, float]:
    moments = cv2.moments(mask.pixels, binaryImage=True)  # sums of integers, hence exact
    area = moments["m00"]
    return mask.left + moments["m10"] / area, mask.top + moments["m01"] / area, area


def shrink_mask(mask: MaskWindow, stride: int, *, soft: bool) -> MaskWindow:
    """Scale a mask of at least one pixel to 1 / stride of its size; values 0 outside of the instance to INSIDE (16).

    soft: the share of inside pixels in each block of stride x stride, to the nearest sixteenth. Otherwise 16 if at
    least two of the four pixels in the middle of the block are inside, else 0, as by cv2's bilinear resize of bytes.
    """
    top, left = mask.top // stride, mask.left // stride
    bottom, right = -(-mask.bottom // stride), -(-mask.right // stride)
    aligned = np.zeros(((bottom - top) * stride, (right - left) * stride), np.uint8)
    y, x = mask.top - top * stride, mask.left - left * stride
    aligned[y : y + mask.pixels.shape[0], x : x + mask.pixels.shape[1]] = mask.pixels
    offsets = range(stride) if soft else (stride // 2 - 1, stride // 2)  # rows and columns of a block to count
    columns = reduce(np.add, [aligned[:, offset::stride] for offset in offsets])
    if stride**2 != INSIDE:
        columns = columns.astype(np.uint16)  # the result reaches stride**2 * INSIDE
    counts = reduce(np.add, [columns[offset::stride] for offset in offsets])
    if not soft:
        return MaskWindow(top, left, (counts >= 2) * np.uint8(INSIDE))
    if stride**2 != INSIDE:
        counts = ((counts * INSIDE + stride**2 // 2) // stride**2).astype(np.uint8)
    return MaskWindow(top, left, counts)
