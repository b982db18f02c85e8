"""Size and values of the network's input."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from config import load_config
from config.base import DataConfig
from data.preprocess import (
    normalize,
    normalize_batch,
    pad_to_batch,
    preprocess,
    resize_image,
    resized_size,
    truncated_size,
)
from tests.support.parity import PARITY, needs_parity, recipe

SMALL = DataConfig(short_side=40, long_side=66)
BY_FACTOR = replace(SMALL, resize_by="factor")
MEAN, STD = np.float32(SMALL.mean), np.float32(SMALL.std)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def size_by_rule(height: int, width: int, config: DataConfig) -> tuple[int, int]:
    """Return (width, height) as mmcv's imrescale computes them, but at least 1, where it fails."""
    scale = min(config.long_side / max(height, width), config.short_side / min(height, width))
    return max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)


SIDES = st.one_of(st.integers(1, 200), st.sampled_from([1, 40, 66, 1000]))


@settings(max_examples=100)
@given(height=SIDES, width=SIDES)
def test_resized_as_opencv_does_then_normalised(height, width):
    image = noise(height, width)
    resized = cv2.resize(image, size_by_rule(height, width, SMALL), interpolation=cv2.INTER_LINEAR)
    ours = preprocess(image, SMALL)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, (resized.astype(np.float32) - MEAN) / STD)


@settings(max_examples=100)
@given(height=SIDES, width=SIDES)
def test_one_of_the_limits_is_reached_and_none_exceeded(height, width):
    short, long = sorted(preprocess(noise(height, width), SMALL).shape[:2])
    assert (short == 40 and long <= 66) or (long == 66 and short <= 40)


@pytest.mark.parametrize(
    ("size", "config", "expected"),
    [
        ((480, 640), DataConfig(), (800, 1067)),
        ((480, 640), load_config(3).data, (448, 597)),
        ((480, 640), load_config(5).data, (512, 683)),
        ((640, 480), DataConfig(), (1067, 800)),
        ((427, 640), DataConfig(), (800, 1199)),
        ((300, 600), DataConfig(), (667, 1333)),  # the long side's limit
        ((1, 1), DataConfig(), (800, 800)),
        ((200, 20000), DataConfig(), (13, 1333)),
        ((20000, 200), DataConfig(), (1333, 13)),
        ((1, 5000), DataConfig(), (1, 1333)),  # 0.27 pixels high by the rule
        ((5000, 1), replace(DataConfig(), resize_by="factor"), (1333, 1)),
        ((200, 20000), replace(DataConfig(), resize_by="factor"), (13, 1333)),
        ((1, 1), replace(DataConfig(), resize_by="factor"), (800, 800)),
        ((1, 5000), replace(DataConfig(), normalize_first=True), (1, 1333)),
    ],
)
def test_sizes_worked_out_by_hand(size, config, expected):
    assert preprocess(np.zeros((*size, 3), np.uint8), config).shape == (*expected, 3)


@pytest.mark.parametrize("resize_by", ["size", "factor"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [((427, 640), (256, 384)), ((640, 427), (256, 171)), ((10, 20), (192, 384)), ((9, 900), (4, 384))],
)
def test_a_picture_is_scaled_into_a_fixed_size(size, expected, resize_by):
    config = DataConfig(fixed_size=(256, 384), resize_by=resize_by)
    ours = preprocess(noise(*size), config)
    assert ours.shape == (*expected, 3)
    batch = pad_to_batch([ours], config.size_divisor, config.fixed_size)
    assert batch.shape == (1, 3, 256, 384)
    assert not batch[:, :, expected[0] :].any() and not batch[:, :, :, expected[1] :].any()


def test_grey_values_pass_through():
    for value in (0, 127, 255):
        for config in (SMALL, BY_FACTOR, replace(SMALL, normalize_first=True)):
            pixels = preprocess(np.full((30, 50, 3), value, np.uint8), config).reshape(-1, 3)
            np.testing.assert_allclose(pixels, np.broadcast_to((value - MEAN) / STD, pixels.shape), atol=1e-6)


@pytest.mark.parametrize("size", [(60, 90), (61, 97), (17, 23), (123, 50)])
def test_by_factor_samples_at_the_exact_ratio(size):
    image = noise(*size)
    factor = min(40 / min(size), 66 / max(size))
    resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(preprocess(image, BY_FACTOR), (resized.astype(np.float32) - MEAN) / STD)


@settings(max_examples=100)
@given(height=SIDES, width=SIDES)
def test_by_factor_has_nearly_the_same_size(height, width):
    image = noise(height, width)
    sizes = [preprocess(image, config).shape[:2] for config in (SMALL, BY_FACTOR)]
    assert np.abs(np.subtract(*sizes)).max() <= 1
    assert min(sizes[1]) >= 1


@pytest.mark.parametrize("size", [(30, 50), (90, 61)])
def test_normalising_first_resizes_the_float_picture(size):
    image = noise(*size)
    normalised = by_paddledetection(image)
    np.testing.assert_allclose(normalised, (image.astype(np.float32) - MEAN) / STD, atol=1e-6)
    expected = cv2.resize(normalised, size_by_rule(*size, SMALL), interpolation=cv2.INTER_LINEAR)
    ours = preprocess(image, replace(SMALL, normalize_first=True))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, expected)


def by_paddledetection(image: np.ndarray) -> np.ndarray:
    """Normalize as PaddleDetection: bytes to 0..1 in float32, then mean and std in float64, rounded at each step."""
    shares = image.astype(np.float32)
    shares *= 1.0 / 255.0
    shares -= np.array([0.485, 0.456, 0.406])
    shares /= np.array([0.229, 0.224, 0.225])
    return shares


@needs_parity
def test_a_normalised_picture_has_the_bits_of_the_original_programs():
    """A different last bit changes single gradients of deformable layers by more than 1 %."""
    for name, number in (("solo_solov2_r50_fpn_8gpu_3x_train", 0), ("ppdet_solov2_r50_enhance_train", 11)):
        images = [normalize(recipe().image(256, 320, salt=salt), load_config(number).data) for salt in (2, 3)]
        batch = pad_to_batch(images, 32)
        recorded = np.load(PARITY / f"{name}.npz")
        parts = [(batch, recorded["input/values"])] if number == 0 else zip(batch, recorded["image/values"])
        for ours, values in parts:
            assert np.array_equal(ours.reshape(-1)[np.linspace(0, ours.size - 1, 64).astype(int)], values), name


@needs_parity
@pytest.mark.parametrize(("number", "size"), [(0, "800x1067"), (3, "448x597"), (5, "512x683")])
def test_equals_what_the_original_solo_resized(number, size):
    recorded = np.load(PARITY / f"solo_input_480x640_to_{size}.npz")
    ours = preprocess(recorded["rgb"], load_config(number).data)
    assert np.array_equal(np.rint(ours * STD + MEAN).astype(np.uint8), recorded["resized"])


@settings(max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=3),
    divisor=st.sampled_from([1, 32]),
)
def test_a_batch_is_padded_with_zeros_at_the_bottom_and_right(sizes, divisor):
    images = [noise(*size).astype(np.float32) + 1 for size in sizes]
    batch = pad_to_batch(images, divisor)
    assert batch.dtype == np.float32
    assert batch.shape[:2] == (len(images), 3)
    for side, largest in zip(batch.shape[2:], np.max(sizes, axis=0)):
        assert side % divisor == 0 and side - divisor < largest <= side
    for padded, image, (height, width) in zip(batch, images, sizes):
        assert np.array_equal(padded[:, :height, :width], image.transpose(2, 0, 1))
        assert not padded[:, height:].any() and not padded[:, :, width:].any()


@settings(max_examples=40)
@given(height=SIDES, width=SIDES)
def test_resized_as_pillow_does(height, width):
    image = noise(height, width)
    size = size_by_rule(height, width, SMALL)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR))
    assert np.array_equal(resize_image(image, replace(SMALL, resize_by="pillow")), expected)


def test_channels_are_bgr_where_the_config_says_so():
    image = noise(30, 50)
    rgb, bgr = SMALL, replace(SMALL, bgr=True)
    assert np.array_equal(preprocess(image, bgr), preprocess(image, rgb)[..., ::-1])
    batch = normalize_batch([image, image[:20]], bgr)
    assert np.array_equal(batch, normalize_batch([image, image[:20]], rgb)[:, ::-1])
    normalized = [normalize(each, rgb)[..., ::-1] for each in (image, image[:20])]
    assert np.array_equal(batch, pad_to_batch(normalized, 32))


@pytest.mark.parametrize(
    ("height", "width", "sides", "truncated", "rounded"),
    [
        (480, 640, (512, 852), (512, 682), (512, 683)),
        (333, 500, (448, 768), (448, 672), (448, 673)),
        (480, 640, (448, 768), (448, 597), (448, 597)),
        (100, 4000, (448, 768), (19, 768), (19, 768)),
        (1, 4000, (448, 768), (1, 768), (1, 768)),
    ],
)
def test_truncated_size_of_paddledetection_0_5(height, width, sides, truncated, rounded):
    config = replace(SMALL, short_side=sides[0], long_side=sides[1])
    assert truncated_size(height, width, config) == truncated
    assert resized_size(height, width, short_side=sides[0], long_side=sides[1]) == rounded


@settings(max_examples=200)
@given(height=SIDES, width=SIDES, short=st.integers(8, 1000))
def test_a_side_that_reaches_its_limit_is_not_truncated(height, width, short):
    config = replace(SMALL, short_side=short, long_side=10**6)
    assert min(truncated_size(height, width, config)) == short
