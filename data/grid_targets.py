"""Which cell of which level learns which instance (Wang et al. 2019, section 3.3.1; Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import cv2
import numpy as np

from config.base import HeadConfig, TargetConfig, level_ranges
from data.samples import MaskWindow

QUARTER = 4  # pixels of the input to a side of a mask target's pixel
INSIDE = QUARTER**2  # value of a mask target's pixel that lies inside the instance
NOTHING = -1


class CellBlock(NamedTuple):
    """The cells of one level that learn one instance. Cells are counted through all levels, row by row."""

    level: int
    instance: int
    centre: int  # the cell that the centre of mass lies in
    cells: np.ndarray  # int64 [1 to 9], `centre` among them


class GridTargets(NamedTuple):
    """What one picture teaches. Cells are counted through all levels, row by row, as in the raw predictions.

    An instance has one mask, however many cells predict it; a cell may have to predict several.
    """

    labels: np.ndarray  # int64 [cells], 0-based class of each cell, -1 where it has none
    masks: np.ndarray  # uint8 [n, H / 4, W / 4], sixteenths: 0 outside of the instance, 16 inside
    cells: np.ndarray  # int64 [p] cell of each (cell, instance) pair
    rows: np.ndarray  # int64 [p] instance of each pair, a row of `masks`


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
    classes: int64 [n], 0-based. size: height and width of the padded batch, multiples of 4.

    As the original SOLO: where instances share a cell, the later one gives it its class, and it learns the masks of
    both.
    """
    height, width = size
    labels = np.full(sum(grid * grid for grid in head.num_grids), NOTHING, np.int64)
    centres = np.array([centre_of_mass(mask) for mask in masks]).reshape(-1, 2)
    used: dict[int, int] = {}  # instance -> row of the mask targets
    cells, rows = [], []
    for block in assigned_cells(centres, box_sides(boxes, config), size=size, head=head, config=config):
        labels[block.cells] = classes[block.instance]
        cells.extend(block.cells.tolist())
        rows.extend([used.setdefault(block.instance, len(used))] * len(block.cells))
    quarters = np.zeros((len(used), height // QUARTER, width // QUARTER), np.uint8)
    for quarter, index in zip(quarters, used):
        small = quarter_mask(masks[index], soft=config.soft_masks)
        quarter[small.top : small.bottom, small.left : small.right] = small.pixels
    cells, rows = np.array(cells, np.int64), np.array(rows, np.int64)
    if config.skip_empty_masks:
        kept = quarters.any(axis=(1, 2))[rows]
        cells, rows = cells[kept], rows[kept]
    return GridTargets(labels, quarters, cells, rows)


def assigned_cells(
    centres: np.ndarray, sides: np.ndarray, *, size: tuple[int, int], head: HeadConfig, config: TargetConfig
) -> list[CellBlock]:
    """Which cells learn which of n instances: level by level, and there in the order of the instances.

    centres: [n, 2], `centre_of_mass` of each. sides: [n, 2], `box_sides` of each. size: as in `grid_targets`.
    """
    scales, halves = box_scales(sides), sides * config.centre_fraction / 2
    # The centre, and both ends of the central part, as shares of the picture: [3, n, 2].
    places = np.stack([centres, centres - halves, centres + halves]) / (size[1], size[0])
    blocks = []
    first_cell = 0
    for level, (grid, (low, high)) in enumerate(zip(head.num_grids, level_ranges(config.scale_ranges))):
        middles, firsts, lasts = np.floor_divide(places, 1 / grid).astype(int)
        # All that the central part touches, at most one cell to each side of the centre's own.
        firsts = np.maximum(firsts, np.maximum(middles - 1, 0))
        stops = np.minimum(lasts, np.minimum(middles + 1, grid - 1)) + 1
        for index in np.flatnonzero((scales >= low) & (scales <= high)).tolist():
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


def centre_of_mass(mask: MaskWindow) -> tuple[float, float]:
    """x, y in pixels of the picture; the centre of the first pixel is 0."""
    moments = cv2.moments(mask.pixels, binaryImage=True)  # sums of whole numbers, which are exact
    return mask.left + moments["m10"] / moments["m00"], mask.top + moments["m01"] / moments["m00"]


def quarter_mask(mask: MaskWindow, *, soft: bool) -> MaskWindow:
    """A mask of at least one pixel at 1/4 size, in sixteenths: 0 outside of the instance, 16 inside.

    soft: the pixels inside of each 4 x 4. Otherwise, as cv2's bilinear resize of bytes does, all or nothing by the four
    in the middle, of which two are enough.
    """
    top, left = mask.top // QUARTER, mask.left // QUARTER
    bottom, right = -(-mask.bottom // QUARTER), -(-mask.right // QUARTER)
    aligned = np.zeros(((bottom - top) * QUARTER, (right - left) * QUARTER), np.uint8)
    y, x = mask.top - top * QUARTER, mask.left - left * QUARTER
    aligned[y : y + mask.pixels.shape[0], x : x + mask.pixels.shape[1]] = mask.pixels
    counted = range(QUARTER) if soft else (1, 2)
    columns = reduce(np.add, [aligned[:, offset::QUARTER] for offset in counted])
    counts = reduce(np.add, [columns[offset::QUARTER] for offset in counted])
    return MaskWindow(top, left, counts if soft else (counts >= 2) * np.uint8(INSIDE))
