"""Which cell of which level learns which instance (Wang et al. 2019, section 3.3.1; Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
    scales = box_scales(sides)
    blocks = []
    first_cell = 0
    for level, (grid, (low, high)) in enumerate(zip(head.num_grids, level_ranges(config.scale_ranges))):
        for index in np.flatnonzero((scales >= low) & (scales <= high)).tolist():
            half = sides[index] * config.centre_fraction / 2
            (column, columns), (line, lines) = (
                _reached(centres[index][axis], half[axis], size[1 - axis], grid) for axis in (0, 1)
            )
            cells = (first_cell + lines[:, None] * grid + columns).ravel()
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
    columns, lines = mask.pixels.sum(axis=0, dtype=np.int64), mask.pixels.sum(axis=1, dtype=np.int64)
    area = columns.sum()
    x = (columns @ np.arange(len(columns))) / area
    y = (lines @ np.arange(len(lines))) / area
    return mask.left + float(x), mask.top + float(y)


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
    blocks = aligned.reshape(bottom - top, QUARTER, right - left, QUARTER)
    if soft:
        inside = blocks.sum(axis=(1, 3), dtype=np.uint8)
    else:
        inside = (blocks[:, 1:3, :, 1:3].sum(axis=(1, 3), dtype=np.uint8) >= 2) * np.uint8(INSIDE)
    return MaskWindow(top, left, inside)


def _reached(centre: float, half: float, length: int, grid: int) -> tuple[int, np.ndarray]:
    """The centre's own cell along one axis, and all that the central part touches, at most one to each side of it."""
    middle, low, high = np.floor_divide(np.array([centre, centre - half, centre + half]) / length, 1 / grid).astype(int)
    return int(middle), np.arange(max(low, middle - 1, 0), min(high, middle + 1, grid - 1) + 1)
