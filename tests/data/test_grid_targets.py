"""Which cell learns which instance, and what its mask looks like: worked out by hand, and against cv2 and numpy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.base import HeadConfig, TargetConfig
from data.grid_targets import (
    INSIDE,
    Extents,
    assign_cells,
    box_scales,
    box_sides,
    centre_of_mass,
    grid_targets,
    shrink_mask,
)
from data.samples import MaskWindow, Sample
from tests.support.reference_targets import MASK_STRIDE
from tools.common.kinds import descriptor

SIZE = (64, 64)
ANY_SCALE = (0.0, 2048.0)


def head(*num_grids: int) -> HeadConfig:
    return HeadConfig(num_grids=num_grids, strides=(8,) * len(num_grids))


def window(top: int, left: int, height: int, width: int) -> MaskWindow:
    return MaskWindow(top, left, np.ones((height, width), np.uint8))


def boxes_of(masks: list[MaskWindow]) -> np.ndarray:
    return np.array([(m.left, m.top, m.right, m.bottom) for m in masks], np.float32).reshape(-1, 4)


def targets_of(masks, classes=None, *, size=SIZE, num_grids=(4,), **options):
    options = {"scale_ranges": ANY_SCALE * len(num_grids), **options}
    classes = np.array(range(len(masks)) if classes is None else classes, np.int64)
    return grid_targets(
        masks,
        boxes_of(masks),
        classes,
        size=size,
        head=head(*num_grids),
        config=TargetConfig(**options),
        mask_strides=[MASK_STRIDE] * len(num_grids),
        shares_cells=True,
    )


def test_a_small_instance_belongs_to_the_cell_of_its_centre():
    """Its centre is at x = 23.5, y = 7.5, and a cell of 4 x 4 is 16 pixels wide."""
    targets = targets_of([window(4, 20, 8, 8)], [3])
    np.testing.assert_array_equal(targets.labels.reshape(4, 4), [[-1, 3, -1, -1]] + [[-1] * 4] * 3)
    assert (targets.cells.tolist(), targets.mask_rows.tolist()) == ([1], [0])
    assert targets.masks[MASK_STRIDE].shape == (1, 16, 16)
    assert targets.masks[MASK_STRIDE][0, 1:3, 5:7].tolist() == [[INSIDE] * 2] * 2
    assert targets.masks[MASK_STRIDE].sum() == 4 * INSIDE


def test_the_central_fifth_of_the_box_reaches_into_other_cells():
    """Centre 32, sides 40 without the border: from 28 to 36 in both directions, over the line between cells 1 and 2."""
    targets = targets_of([window(12, 12, 41, 41)])
    assert sorted(targets.cells.tolist()) == [5, 6, 9, 10]
    assert targets.mask_rows.tolist() == [0] * 4


def test_no_cell_further_than_one_from_the_centre_is_reached():
    (block,) = assign_cells(
        Extents(np.array([[28.0, 4.0]]), np.array([[63.0, 63.0]]), np.array([4000.0])),
        size=SIZE,
        head=head(8),
        config=TargetConfig(scale_ranges=ANY_SCALE, centre_fraction=1.0),
    )
    assert (block.level, block.instance, block.centre) == (0, 0, 3)
    assert block.cells.tolist() == [2, 3, 4, 10, 11, 12]


@pytest.mark.parametrize(("order", "label"), [((3, 5), 5), ((5, 3), 3)])
def test_the_later_instance_gives_a_shared_cell_its_class_and_both_masks_are_learnt(order, label):
    masks = [window(12, 12, 41, 41), window(22, 22, 21, 21)]
    targets = targets_of(masks, order)
    assert set(targets.labels[[5, 6, 9, 10]].tolist()) == {label}
    assert sorted(zip(targets.cells.tolist(), targets.mask_rows.tolist())) == [
        (c, r) for c in (5, 6, 9, 10) for r in (0, 1)
    ]
    assert targets.masks[MASK_STRIDE][0].sum() > targets.masks[MASK_STRIDE][1].sum() > 0


@pytest.mark.parametrize(
    ("side", "border", "levels"),
    [(17, 1, {0, 1}), (16, 1, {0}), (18, 1, {1}), (17, 0, {1}), (16, 0, {0, 1}), (41, 1, {1}), (42, 1, set())],
)
def test_both_ends_of_a_scale_range_are_in_it(side, border, levels):
    """Levels for the scales 0 to 16 and 16 to 40; cell 0 to 15 are those of the first one."""
    targets = targets_of(
        [window(8, 8, side, side)], num_grids=(4, 2), scale_ranges=(0.0, 16.0, 16.0, 40.0), box_border=border
    )
    assert {int(cell >= 16) for cell in targets.cells} == levels


def test_the_scale_is_that_of_the_box_and_no_side_is_below_zero():
    boxes = np.float32([[0, 0, 10, 5], [3, 3, 3.5, 60]])
    np.testing.assert_array_equal(box_sides(boxes, TargetConfig(box_border=1)), [[9, 4], [0, 56]])
    np.testing.assert_array_equal(box_scales(box_sides(boxes, TargetConfig(box_border=1))), [6, 0])


@pytest.mark.parametrize("skip", [False, True])
def test_a_mask_that_vanishes_gives_a_class_and_is_learnt_or_not(skip):
    """As PaddleDetection, whose label is set before it looks at the mask."""
    targets = targets_of([window(0, 0, 1, 1), window(32, 32, 8, 8)], [6, 7], skip_empty_masks=skip)
    assert (targets.labels[0], targets.labels[10]) == (6, 7)
    assert not targets.masks[MASK_STRIDE][0].any()
    assert targets.cells.tolist() == ([10] if skip else [0, 10])
    assert targets.mask_rows.tolist() == ([1] if skip else [0, 1])


def test_one_pixel_in_every_corner():
    corners = [(0, 0), (0, 63), (63, 0), (63, 63)]
    targets = targets_of([window(*corner, 1, 1) for corner in corners], num_grids=(4, 3), soft_masks=True)
    assert targets.cells.tolist() == [0, 3, 12, 15, 16, 18, 22, 24]
    assert targets.mask_rows.tolist() == [0, 1, 2, 3] * 2
    for mask, (top, left) in zip(targets.masks[MASK_STRIDE], corners):
        assert mask.sum() == mask[top // 4, left // 4] == 1


def test_five_hundred_instances():
    rng = np.random.default_rng(1)
    masks = [window(*rng.integers(0, 60, 2).tolist(), *rng.integers(1, 5, 2).tolist()) for _ in range(500)]
    targets = targets_of(masks, rng.integers(0, 80, 500), num_grids=(8, 4))
    assert targets.masks[MASK_STRIDE].shape == (500, 16, 16)
    assert set(targets.mask_rows.tolist()) == set(range(500))


@pytest.mark.parametrize(
    ("masks", "options"), [([], {}), ([window(3, 3, 20, 20)], {"scale_ranges": (50.0, 60.0)})], ids=["none", "no scale"]
)
def test_nothing_to_learn(masks, options):
    targets = targets_of(masks, **options)
    arrays = (targets.labels, targets.masks[MASK_STRIDE], targets.cells, targets.mask_rows)
    assert [value.dtype for value in arrays] == [np.int64, np.uint8, np.int64, np.int64]
    assert [value.shape for value in arrays] == [(16,), (0, 16, 16), (0,), (0,)]
    assert (targets.labels == -1).all()


def test_an_instance_has_one_mask_however_many_cells_learn_it():
    targets = targets_of([window(0, 0, 64, 64)] * 3, num_grids=(8, 4, 2), centre_fraction=1.0)
    assert targets.masks[MASK_STRIDE].shape == (3, 16, 16)
    assert np.bincount(targets.mask_rows).tolist() == [9 + 9 + 4] * 3


WINDOWS = st.tuples(st.integers(0, 63), st.integers(0, 127)).flatmap(
    lambda corner: st.builds(
        lambda height, width, seed: _random_window(*corner, height, width, seed),
        st.integers(1, 64 - corner[0]),
        st.integers(1, 128 - corner[1]),
        st.integers(0, 2**32 - 1),
    )
)


def _random_window(top: int, left: int, height: int, width: int, seed: int) -> MaskWindow:
    rng = np.random.default_rng(seed)
    pixels = (rng.random((height, width)) < rng.choice([0.1, 0.5, 1.0])).astype(np.uint8)
    pixels[rng.integers(height), rng.integers(width)] = 1
    return MaskWindow(top, left, pixels)


STRIDES = st.sampled_from([4, 8, 16])


@given(mask=WINDOWS, stride=STRIDES)
def test_a_hard_mask_is_what_cv2_makes_of_the_bytes(mask, stride):
    height, width = 64 // stride, 128 // stride
    expected = cv2.resize(mask.to_full(64, 128), (width, height), interpolation=cv2.INTER_LINEAR) * INSIDE
    np.testing.assert_array_equal(shrink_mask(mask, stride, soft=False).to_full(height, width), expected)


@given(mask=WINDOWS, stride=STRIDES)
def test_a_soft_mask_is_the_share_of_pixels_inside(mask, stride):
    height, width = 64 // stride, 128 // stride
    counts = mask.to_full(64, 128).astype(int).reshape(height, stride, width, stride).sum(axis=(1, 3))
    expected = np.floor(counts * INSIDE / stride**2 + 0.5)
    np.testing.assert_array_equal(shrink_mask(mask, stride, soft=True).to_full(height, width), expected)


@given(mask=WINDOWS)
def test_the_centre_of_mass_is_the_mean_position_of_the_pixels(mask):
    y, x = np.argwhere(mask.to_full(64, 128)).mean(axis=0)
    assert centre_of_mass(mask) == pytest.approx((x, y), rel=1e-12)


def nearby(centre: float, half: float, cell: float, grid: int) -> list[int]:
    """Cells of one axis that the central part touches, written as the paper says it."""
    return [
        number
        for number in range(grid)
        if abs(number - centre // cell) <= 1 and centre + half >= number * cell and centre - half < (number + 1) * cell
    ]


@settings(max_examples=60)
@given(
    masks=st.lists(WINDOWS, max_size=6),
    border=st.sampled_from([0, 1]),
    fraction=st.sampled_from([0.0, 0.2, 1.0]),
    soft=st.booleans(),
    skip=st.booleans(),
)
def test_targets_are_those_of_the_definition(masks, border, fraction, soft, skip):
    """With sides and grids that are powers of two, so that both ways to compute a cell are exact."""
    ranges = ((0.0, 24.0), (16.0, 60.0), (50.0, 2048.0))
    targets = targets_of(
        masks,
        size=(64, 128),
        num_grids=(8, 4, 2),
        scale_ranges=sum(ranges, ()),
        box_border=border,
        centre_fraction=fraction,
        soft_masks=soft,
        skip_empty_masks=skip,
    )
    labels, pairs, first = np.full(8 * 8 + 4 * 4 + 2 * 2, -1), [], 0
    for grid, (low, high) in zip((8, 4, 2), ranges):
        for number, mask in enumerate(masks):
            height, width = (max(side - border, 0) for side in mask.pixels.shape)
            if low <= np.sqrt(height * width) <= high:
                x, y = centre_of_mass(mask)
                lines = nearby(y, height * fraction / 2, 64 / grid, grid)
                columns = nearby(x, width * fraction / 2, 128 / grid, grid)
                cells = [first + line * grid + column for line in lines for column in columns]
                labels[cells] = number
                if not skip or shrink_mask(mask, MASK_STRIDE, soft=soft).pixels.any():
                    pairs += [(cell, number) for cell in cells]
        first += grid * grid
    np.testing.assert_array_equal(targets.labels, labels)
    assert targets.cells.tolist() == [cell for cell, _ in pairs]
    assert (targets.mask_rows >= 0).all() and (targets.mask_rows < len(targets.masks[MASK_STRIDE])).all()
    for row, (_, number) in zip(targets.mask_rows, pairs):
        expected = shrink_mask(masks[number], MASK_STRIDE, soft=soft).to_full(16, 32)
        np.testing.assert_array_equal(targets.masks[MASK_STRIDE][row], expected)


SOLO = HeadConfig(kind="solo", num_grids=(8, 4, 2), strides=(8, 8, 16))


def test_solo_learns_the_later_mask_of_a_shared_cell_at_half_the_stride_of_its_level():
    masks = [window(12, 12, 41, 41), window(22, 22, 21, 21)]
    config = TargetConfig(scale_ranges=ANY_SCALE * 3)
    sample = Sample(np.zeros((*SIZE, 3), np.uint8), masks, boxes_of(masks), np.array([5, 6]), "")
    targets = descriptor("solo").targets(
        sample, SIZE, load_config("solo_r50_fpn_8gpu_3x").replace(head=SOLO, target=config)
    )
    assert {stride: found.shape for stride, found in targets.masks.items()} == {4: (2, 16, 16), 8: (2, 8, 8)}
    assert len(set(targets.cells.tolist())) == len(targets.cells)
    assert set(targets.cells.tolist()) == set(np.flatnonzero(targets.labels >= 0).tolist())
    of_cell = dict(zip(targets.cells.tolist(), targets.mask_rows.tolist()))
    assert all(targets.labels[cell] == 5 + row for cell, row in of_cell.items())
    assert sum(targets.level_pairs) == len(targets.cells)
    ends = np.cumsum([64, 16, 4])
    levels = np.searchsorted(ends, targets.cells, side="right")
    assert np.bincount(levels, minlength=3).tolist() == list(targets.level_pairs)
    assert (np.diff(levels) >= 0).all()


@pytest.mark.parametrize(("side", "learnt"), [(3, False), (4, True)])
def test_instances_below_the_least_area_are_not_learnt(side, learnt):
    targets = targets_of([window(8, 8, side, side)], min_area=10)
    assert bool(targets.level_pairs[0]) == learnt == bool((targets.labels >= 0).any())
