"""Colour distortion: its limits and the probability of each step."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.base import AugmentConfig
from data.colour import distort_colours, draw_distortion
from tests.support.tiny import scene

NONE = AugmentConfig(distort=1.0, distort_brightness=0.0, distort_contrast=0.0, distort_saturation=0.0, distort_hue=0.0)
KINDS = {"distort_brightness": 40.0, "distort_contrast": 0.5, "distort_saturation": 0.5, "distort_hue": 30.0}


def apply_distort(image: np.ndarray, config: AugmentConfig, seed: int) -> np.ndarray:
    return distort_colours(image, draw_distortion(config, np.random.default_rng(seed)))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 30), width=st.integers(1, 30))
def test_returns_a_new_picture_of_the_same_kind(seed, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    result = apply_distort(image, AugmentConfig(distort=0.5), seed)
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert np.array_equal(image, before)
    assert np.array_equal(result, apply_distort(image, AugmentConfig(distort=0.5), seed))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_grey_stays_grey(seed):
    image = np.random.default_rng(seed).integers(0, 256, (9, 9, 1), dtype=np.uint8).repeat(3, axis=2)
    result = apply_distort(image, AugmentConfig(distort=1.0), seed)
    assert (result == result[..., :1]).all()


def test_probability_zero_changes_nothing():
    image = scene(0)
    assert all(np.array_equal(apply_distort(image, AugmentConfig(distort=0.0), seed), image) for seed in range(20))


def test_ranges_of_zero_change_nothing():
    assert all(np.array_equal(apply_distort(scene(0), NONE, seed), scene(0)) for seed in range(20))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_probability(kind):
    image = scene(1, height=64, width=64)
    config = replace(NONE, distort=0.5, **{kind: KINDS[kind]})
    changed = sum(not np.array_equal(apply_distort(image, config, seed), image) for seed in range(200))
    assert 70 < changed < 130


def test_kinds_are_independent():
    """Brightness changes the grey value, saturation the difference of the channels; all four combinations occur."""
    image = np.uint8([[[100, 100, 100], [200, 100, 100]]])
    config = replace(NONE, distort=0.5, distort_brightness=20.0, distort_saturation=0.5)
    seen = set()
    for seed in range(60):
        (grey, *_), (red, green, _) = apply_distort(image, config, seed)[0].astype(int).tolist()
        seen.add((grey != 100, red - green != 100))
    assert len(seen) == 4


def test_brightness_adds_up_to_its_limit():
    image = np.full((2, 2, 3), 128, np.uint8)
    shifts = [
        int(apply_distort(image, replace(NONE, distort_brightness=32.0), seed)[0, 0, 0]) - 128 for seed in range(300)
    ]
    assert -32 <= min(shifts) < -28 and 28 < max(shifts) <= 32


def test_contrast_multiplies_and_is_limited_to_white():
    image = np.uint8([[[0, 100, 250]]])
    for seed in range(50):
        black, middle, bright = apply_distort(image, replace(NONE, distort_contrast=0.5), seed)[0, 0].tolist()
        assert black == 0 and 50 <= middle <= 150
        assert bright == pytest.approx(min(middle * 2.5, 255), abs=2)


def test_contrast_comes_before_or_after_saturation():
    """The first two pixels show the factors, and the third, which contrast clips at white, shows their order."""
    image = np.uint8([[[100, 100, 100], [100, 60, 60], [250, 150, 150]]])
    seen = []
    for seed in range(500):
        result = apply_distort(image, replace(NONE, distort_contrast=1.0, distort_saturation=1.0), seed)
        grey, dim, bright = result[0].astype(float)
        contrast = grey[0] / 100
        saturation = (dim[0] - dim[1]) / 40 / max(contrast, 0.01)
        high, low = min(250 * contrast, 255), min(150 * contrast, 255)
        contrast_first = high - (high - low) * saturation
        contrast_last = min((250 - 100 * saturation) * contrast, 255)
        if abs(contrast_first - contrast_last) > 20:
            seen.append(abs(bright[1] - contrast_first) < abs(bright[1] - contrast_last))
            assert min(abs(bright[1] - contrast_first), abs(bright[1] - contrast_last)) < 8
    assert len(seen) > 50 and 0.35 < np.mean(seen) < 0.65


@pytest.mark.parametrize("kind", ["distort_saturation", "distort_hue"])
def test_saturation_and_hue_keep_the_brightest_channel(kind):
    image = scene(2)
    for seed in range(10):
        result = apply_distort(image, replace(NONE, **{kind: KINDS[kind]}), seed)
        assert not np.array_equal(result, image)
        assert np.array_equal(result.max(axis=2), image.max(axis=2))


def test_hue_shifts_up_to_its_limit_in_both_directions():
    red = np.full((1, 1, 3), (200, 0, 0), np.uint8)
    turns = []
    for seed in range(200):
        result = apply_distort(red, replace(NONE, distort_hue=18.0), seed).astype(np.float32) / 255
        hue = cv2.cvtColor(result, cv2.COLOR_RGB2HSV)[0, 0, 0]
        turns.append((hue + 180) % 360 - 180)
    assert -20 < min(turns) < -14 and 14 < max(turns) < 20


def test_saturation_is_that_of_floating_point_hsv():
    """The difference between the largest and the smallest channel changes by one factor in the whole picture."""
    image = scene(3)
    spread = np.ptp(image.astype(np.float32), axis=2)
    for seed in range(10):
        result = np.ptp(apply_distort(image, replace(NONE, distort_saturation=0.4), seed).astype(np.float32), axis=2)
        weak = (spread > 20) & (spread < 0.6 * image.max(axis=2))  # cannot reach the full saturation
        factors = result[weak] / spread[weak]
        assert 0.6 - 0.02 <= np.median(factors) <= 1.4 + 0.02
        assert np.abs(result[weak] - np.median(factors) * spread[weak]).mean() < 1.5
