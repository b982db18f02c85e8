"""Facts about the cells of all levels, which are counted level by level and there row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from config.networks import HeadConfig


def smallest_areas(head: HeadConfig) -> np.ndarray:
    """Return the area that the mask of each cell must exceed, int64 [cells], in pixels of the mask."""
    return np.repeat(head.strides, np.square(head.num_grids))


def cell_levels(grids: Sequence[int]) -> np.ndarray:
    """Return the level of each cell, int64 [cells]. grids: cells per side of each level."""
    return np.repeat(np.arange(len(grids)), np.square(grids))


def axis_maps(grids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return which two maps of Decoupled SOLO give the mask of each cell: its column's and its row's, int64 [cells].

    A level of S x S cells has S maps for its columns, then S for its rows; maps are counted through all levels.
    """
    columns, rows, first = [], [], 0
    for grid in grids:
        row, column = np.divmod(np.arange(grid * grid), grid)
        columns.append(first + column)
        rows.append(first + grid + row)
        first += 2 * grid
    return np.concatenate(columns), np.concatenate(rows)
