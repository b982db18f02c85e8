"""Resizing, cropping, flipping and turning change picture, masks and boxes alike."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.base import TargetConfig
from data.geometry import Window, crop, flip, flip_vertical, resize, select, turn
from data.grid_targets import box_sides
from data.samples import MaskWindow, Sample
from tests.support.samples import (
    SAMPLES,
    assert_consistent,
    assert_equal,
    assert_masks_match_paint,
    full_masks,
    painted_sample,
)

MIRRORS = {flip: lambda a: a[:, ::-1], flip_vertical: lambda a: a[::-1], turn: np.rot90}
SIDES = st.one_of(st.integers(1, 120), st.sampled_from([1, 30, 60, 400]))


@settings(max_examples=60)
@given(sample=SAMPLES)
@pytest.mark.parametrize("change", MIRRORS)
def test_mirrors_and_turns_as_numpy_does(change, sample):
    changed = change(sample)
    assert_consistent(changed)
    assert_masks_match_paint(changed)
    assert np.array_equal(changed.image, MIRRORS[change](sample.image))
    for mask, original in zip(full_masks(changed), full_masks(sample)):
        assert np.array_equal(mask, MIRRORS[change](original))
    for box, mask in zip(changed.gt_boxes, changed.gt_masks):
        assert box.tolist() == [mask.left, mask.top, mask.right, mask.bottom]


@settings(max_examples=60)
@given(sample=SAMPLES, shift=st.floats(0, 0.5))
@pytest.mark.parametrize(("change", "times"), [(flip, 2), (flip_vertical, 2), (turn, 4)])
def test_repeating_restores_the_sample(change, times, sample, shift):
    annotated = replace(sample, gt_boxes=sample.gt_boxes + np.float32([shift, shift, -shift, -shift]) / 2)
    changed = annotated
    for _ in range(times):
        changed = change(changed)
    assert_equal(changed, annotated, tolerance=1e-4)


@settings(max_examples=200)
@given(sample=SAMPLES, height=SIDES, width=SIDES)
def test_resizes_masks_exactly_as_opencv_does(sample, height, width):
    resized = resize(sample, height=height, width=width)
    assert_consistent(resized)
    expected = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) for mask in full_masks(sample)]
    kept = [index for index, mask in enumerate(expected) if mask.any()]
    assert resized.gt_classes.tolist() == sample.gt_classes[kept].tolist()
    for mask, index in zip(full_masks(resized), kept):
        assert np.array_equal(mask, expected[index])
    assert np.array_equal(resized.image, cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR))
    scale = [width / sample.image.shape[1], height / sample.image.shape[0]] * 2
    np.testing.assert_allclose(resized.gt_boxes, sample.gt_boxes[kept] * scale, rtol=1e-6)


@pytest.mark.parametrize("size", [(800, 1067), (448, 597), (333, 1333), (11, 7), (480, 640)])
def test_resizes_masks_exactly_at_typical_sizes(size):
    sample = painted_sample(3, 480, 640)
    for mask, original in zip(full_masks(resize(sample, height=size[0], width=size[1])), full_masks(sample)):
        assert np.array_equal(mask, cv2.resize(original, size[::-1], interpolation=cv2.INTER_NEAREST))


@pytest.mark.parametrize("border", [0, 1])
@pytest.mark.parametrize("factor", [0.5, 1, 1.75])
def test_a_resize_scales_the_sides_that_the_original_programs_store(border, factor):
    """mmdet and PaddleDetection 0.5 store x1, y1, x1 + w - 1, y1 + h - 1; PaddleDetection 2.x no border."""
    boxes, ones = np.float32([[8, 4, 38, 44], [0, 0, 80, 60]]), np.ones((40, 30), np.uint8)
    masks = MaskWindow(4, 8, ones), MaskWindow(0, 0, ones)
    sample = Sample(np.zeros((60, 80, 3), np.uint8), masks, boxes, np.array([0, 1]), "a.png", border)
    scaled = resize(sample, height=int(60 * factor), width=int(80 * factor))
    stored = (boxes - np.float32([0, 0, border, border])) * factor
    sides = box_sides(scaled.gt_boxes, TargetConfig(box_border=border))
    np.testing.assert_allclose(sides, stored[:, 2:] - stored[:, :2], rtol=1e-6)


@st.composite
def samples_and_windows(draw) -> tuple[Sample, Window]:
    sample = draw(SAMPLES)
    height, width = sample.image.shape[:2]
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return sample, Window(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))


@settings(max_examples=200)
@given(case=samples_and_windows())
def test_crops_as_slicing_does(case):
    sample, window = case
    part = crop(sample, window)
    assert_consistent(part)
    assert_masks_match_paint(part)
    cut = (slice(window.top, window.bottom), slice(window.left, window.right))
    assert np.array_equal(part.image, sample.image[cut])
    expected = full_masks(sample)[(slice(None), *cut)]
    kept = expected.any(axis=(1, 2))
    assert np.array_equal(full_masks(part), expected[kept])
    assert np.array_equal(part.gt_classes, sample.gt_classes[kept])


def test_crop_clips_boxes():
    mask = MaskWindow(2, 3, np.ones((5, 6), np.uint8))
    sample = Sample(np.zeros((10, 12, 3), np.uint8), (mask,), np.float32([[2.5, 2, 9, 7.5]]), np.array([4]), "a.png")
    assert crop(sample, Window(1, 4, 6, 12)).gt_boxes.tolist() == [[0, 1, 5, 5]]
    assert crop(sample, Window(0, 0, 10, 12)).gt_boxes.tolist() == [[2.5, 2, 9, 7.5]]


def test_crop_drops_what_is_hardly_visible():
    mask = MaskWindow(0, 0, np.ones((10, 10), np.uint8))
    sample = Sample(np.zeros((10, 20, 3), np.uint8), (mask,), np.float32([[0, 0, 10, 10]]), np.array([0]), "a.png")
    window = Window(0, 8, 10, 20)  # a fifth of the instance
    assert len(crop(sample, window)) == len(crop(sample, window, min_visible=0.2)) == 1
    assert len(crop(sample, window, min_visible=0.21)) == 0


def test_crop_drops_an_instance_of_which_only_the_mask_or_the_box_is_inside():
    mask = MaskWindow(6, 6, np.ones((4, 4), np.uint8))
    sample = Sample(np.zeros((10, 10, 3), np.uint8), (mask,), np.float32([[1, 1, 9, 9]]), np.array([0]), "a.png")
    for window in (Window(0, 0, 4, 10), Window(0, 0, 10, 4), Window(9, 0, 10, 10), Window(0, 9, 10, 10)):
        assert len(crop(sample, window)) == 0


def test_select_keeps_masks_boxes_and_classes_together():
    sample = painted_sample(1, 40, 50)
    chosen = select(sample, [4, 1])
    assert_masks_match_paint(replace(chosen, image=sample.image))
    assert chosen.gt_classes.tolist() == [4, 1]
    assert np.array_equal(chosen.gt_boxes, sample.gt_boxes[[4, 1]])
    assert len(select(sample, [])) == 0
    assert_consistent(select(sample, []))
