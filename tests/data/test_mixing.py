"""Mixup, cutmix and copy-paste: where the pixels of the result come from, and whose instances are kept."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from config.base import AugmentConfig
from data.geometry import select
from data.mixing import MIN_VISIBLE, copy_paste, cutmix, mixup
from data.samples import MaskWindow, Sample
from tests.support.samples import (
    MAX_INSTANCES,
    SAMPLES,
    SEEDS,
    assert_consistent,
    assert_equal,
    assert_masks_match_paint,
    full_masks,
    painted_sample,
)

CONFIG = AugmentConfig()
PASTED = 200  # value of every pixel of what is pasted


def apply_mixing(function, sample: Sample, second: Sample, seed: int) -> Sample:
    options = {} if function is copy_paste else {"config": CONFIG}
    return function(sample, second, rng=np.random.default_rng(seed), **options)


def rectangle(height: int, width: int, box: tuple[int, int, int, int], value: int = 1) -> Sample:
    """Return a sample with one rectangular instance. box: x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = value
    mask = MaskWindow(y1, x1, np.ones((y2 - y1, x2 - x1), np.uint8))
    return Sample(image, (mask,), np.float32([box]), np.array([value - 1]), "rectangle.png")


@settings(max_examples=100)
@given(sample=SAMPLES, second=SAMPLES, seed=SEEDS)
@pytest.mark.parametrize("function", [copy_paste, mixup, cutmix])
def test_gives_a_consistent_sample_that_the_seed_decides(function, sample, second, seed):
    copies = [replace(each, image=each.image.copy()) for each in (sample, second)]
    result = apply_mixing(function, sample, second, seed)
    assert_consistent(result)
    assert_equal(apply_mixing(function, *copies, seed), result)
    assert_equal(sample, copies[0])  # the inputs are not changed
    assert_equal(second, copies[1])


@pytest.mark.parametrize(("function", "size", "length"), [(mixup, (17_000, 1), 17_000), (cutmix, (300, 30), 4_000)])
def test_pictures_that_would_fill_the_memory_together_are_not_mixed(function, size, length):
    sample, long = painted_sample(1, *size), painted_sample(2, 1, length)
    assert all(apply_mixing(function, sample, long, seed) is sample for seed in range(3))


@pytest.mark.parametrize("function", [copy_paste, mixup, cutmix])
def test_another_seed_gives_another_picture(function):
    sample, second = painted_sample(1, 40, 50), painted_sample(2, 50, 40)
    images = {apply_mixing(function, sample, second, seed).image.tobytes() for seed in range(10)}
    assert len(images) > 7


@settings(max_examples=100)
@given(sample=SAMPLES, second=SAMPLES, seed=SEEDS)
def test_mixup_keeps_all_instances_where_they_were(sample, second, seed):
    result = apply_mixing(mixup, sample, second, seed)
    assert result.gt_masks == sample.gt_masks + second.gt_masks
    assert np.array_equal(result.gt_boxes, np.concatenate([sample.gt_boxes, second.gt_boxes]))
    assert np.array_equal(result.gt_classes, np.concatenate([sample.gt_classes, second.gt_classes]))
    assert result.name == f"{sample.name} + {second.name}"


def test_mixup_blends_by_one_share_on_black():
    sample, second = rectangle(30, 60, (0, 0, 60, 30), 100), rectangle(50, 20, (0, 0, 20, 50), 200)
    shares = []
    for seed in range(100):
        image = apply_mixing(mixup, sample, second, seed).image.astype(float)
        assert image.shape == (50, 60, 3)
        share = image[0, 59, 0] / 100
        assert np.abs(image[:30, 20:] - 100 * share).max() < 1
        assert np.abs(image[30:, :20] - 200 * (1 - share)).max() < 2
        assert np.abs(image[:30, :20] - 100 * share - 200 * (1 - share)).max() < 2
        assert not image[30:, 20:].any()
        shares.append(share)
    assert 0.4 < np.mean(shares) < 0.6 and min(shares) < 0.2 and max(shares) > 0.8


@settings(max_examples=100)
@given(seed=SEEDS, sample_seed=SEEDS)
def test_cutmix_of_equal_sizes_moves_pixels_and_masks_alike(seed, sample_seed):
    sample = painted_sample(sample_seed, 45, 60)
    second = painted_sample(sample_seed + 1, 45, 60, first_class=MAX_INSTANCES)
    result = apply_mixing(cutmix, sample, second, seed)
    assert_masks_match_paint(result)
    for number in np.setdiff1d(np.unique(result.image), 0):
        origin = sample if number <= MAX_INSTANCES else second
        left = (result.image[..., 0] == number).sum() / (origin.image[..., 0] == number).sum()
        assert (number - 1 in result.gt_classes) == (left >= MIN_VISIBLE)


def test_cutmix_replaces_one_rectangle_of_the_share():
    sample, second = rectangle(80, 100, (0, 0, 100, 80), 1), rectangle(160, 200, (0, 0, 200, 160), 9)
    areas = []
    for seed in range(100):
        result = apply_mixing(cutmix, sample, second, seed)
        masks = dict(zip((result.gt_classes + 1).tolist(), result.gt_masks))
        from_second = result.image[..., 0] == 9
        areas.append(from_second.mean())
        rows, columns = np.flatnonzero(from_second.any(axis=1)), np.flatnonzero(from_second.any(axis=0))
        assert from_second.sum() == len(rows) * len(columns)
        if 9 in masks:
            assert masks[9].area == from_second.sum()
        if 1 in masks:
            assert masks[1].area == 8000 - from_second.sum()
    # Half of the picture on average, less the quarter or so that sticks out of it.
    assert 0.3 < np.mean(areas) < 0.45 and min(areas) < 0.15 and max(areas) > 0.7


def test_cutmix_covers_a_picture_of_another_shape():
    sample, second = rectangle(40, 80, (0, 0, 80, 40), 1), rectangle(60, 30, (0, 0, 30, 60), 9)
    for seed in range(50):
        assert set(np.unique(apply_mixing(cutmix, sample, second, seed).image)) <= {1, 9}


def test_cutmix_keeps_the_proportions_of_the_second_picture():
    sample, second = rectangle(40, 80, (0, 0, 80, 40)), rectangle(60, 30, (10, 0, 20, 10), 9)
    results = [apply_mixing(cutmix, sample, second, seed) for seed in range(50)]
    shapes = [result.gt_masks[-1].pixels.shape for result in results if 8 in result.gt_classes]
    assert max(shapes, key=np.prod) == (27, 27)  # the square, 80 / 30 times as large, where it is not cut


@settings(max_examples=100)
@given(sample=SAMPLES, second_seed=SEEDS, seed=SEEDS)
def test_copy_paste_hides_what_is_below(sample, second_seed, seed):
    second = painted_sample(second_seed, 40, 40, first_class=MAX_INSTANCES)
    second = replace(second, image=np.full_like(second.image, PASTED))
    result = apply_mixing(copy_paste, sample, second, seed)
    pasted = result.image[..., 0] == PASTED
    is_old = result.gt_classes < MAX_INSTANCES
    masks = full_masks(result) > 0
    assert np.array_equal(masks[~is_old].any(axis=0) if len(result) else np.zeros_like(pasted), pasted)
    assert np.array_equal(np.where(pasted, 0, result.image[..., 0]), np.where(pasted, 0, sample.image[..., 0]))
    assert_masks_match_paint(select(result, np.flatnonzero(is_old)))
    for number in sample.gt_classes:
        left = (result.image[..., 0] == number + 1).sum() / (sample.image[..., 0] == number + 1).sum()
        assert (number in result.gt_classes) == (left >= MIN_VISIBLE)


def test_copy_paste_takes_a_part_of_the_instances():
    sample = rectangle(60, 60, (0, 0, 1, 1))
    second = painted_sample(5, 60, 60, first_class=MAX_INSTANCES)
    counts = [
        int((apply_mixing(copy_paste, sample, second, seed).gt_classes >= MAX_INSTANCES).sum()) for seed in range(100)
    ]
    assert max(counts) == len(second) and len(set(counts)) > 4


def test_copy_paste_without_instances_changes_nothing():
    sample = painted_sample(1, 20, 20)
    assert apply_mixing(copy_paste, sample, painted_sample(0, 20, 20, count=0), 0) is sample


def test_copy_paste_scales_and_mirrors_and_moves():
    """The orientation of a triangle in a corner shows a flip, and the length of its sides the scale of 0.1 to 2."""
    triangle = np.tril(np.ones((50, 50), np.uint8))
    second = Sample(
        np.full((50, 50, 3), PASTED, np.uint8),
        (MaskWindow(0, 0, triangle),),
        np.float32([[0, 0, 50, 50]]),
        np.array([MAX_INSTANCES]),
        "triangle.png",
    )
    sample = rectangle(100, 100, (0, 0, 1, 1))
    heights, mirrored, places = [], [], set()
    for seed in range(200):
        result = apply_mixing(copy_paste, sample, second, seed)
        mask = result.gt_masks[-1]
        heights.append(mask.pixels.shape[0])
        places.add((mask.top, mask.left))
        if mask.pixels.shape == (heights[-1], heights[-1]) and 15 < heights[-1] < 99:
            mirrored.append(bool(mask.pixels[0, -1]))
    assert min(heights) < 20 and max(heights) == 100 and len(places) > 50
    assert 0.3 < np.mean(mirrored) < 0.7


def test_cut_masks_get_their_tight_box_and_others_keep_the_annotated_one():
    sample = rectangle(40, 40, (2, 2, 12, 12))
    annotated = [1.5, 1.5, 12.5, 12.5]
    sample = replace(sample, gt_boxes=np.float32([annotated]))
    second = rectangle(40, 40, (0, 0, 40, 40), PASTED)
    seen = set()
    for seed in range(200):
        result = apply_mixing(cutmix, sample, second, seed)
        if result.gt_classes.tolist().count(0):
            mask, box = result.gt_masks[0], result.gt_boxes[0].tolist()
            is_cut = mask.area < 10 * 10
            assert box == ([mask.left, mask.top, mask.right, mask.bottom] if is_cut else annotated)
            seen.add(is_cut)
    assert seen == {True, False}


def test_pasted_picture_is_resized_linearly_where_its_masks_are():
    """Each pasted pixel has the colour of its own place in the second picture."""
    ramp = np.tile(np.linspace(10, 250, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    second = Sample(
        ramp, (MaskWindow(0, 0, np.ones((64, 64), np.uint8)),), np.float32([[0, 0, 64, 64]]), np.array([1]), "ramp.png"
    )
    for seed in range(20):
        result = apply_mixing(copy_paste, rectangle(64, 64, (0, 0, 1, 1)), second, seed)
        mask = result.gt_masks[-1]
        patch = result.image[mask.top : mask.bottom, mask.left : mask.right]
        if min(patch.shape[:2]) > 5 and max(patch.shape[:2]) < 64:
            expected = cv2.resize(ramp, patch.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            assert np.array_equal(patch, expected) or np.array_equal(patch, expected[:, ::-1])
