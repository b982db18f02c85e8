"""Matrix NMS: cases worked out by hand, and the formula of the paper over all pairs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.base import NMSConfig
from model.decode.fast_matrix_nms import _count_bits, matrix_nms
from model.decode.plain import matrix_nms as plain_matrix_nms
from tests.support.loops import both_loops  # noqa: F401

GAUSSIAN = NMSConfig(kernel="gaussian", sigma=2.0)
LINEAR = NMSConfig(kernel="linear")
IDENTICAL = ["####....", "####....", "####...."]
CHAIN = ["####....", "..####..", "....####"]  # IoU of neighbours 2 / 6, of the ends 0
NESTED = ["########", "####....", "##......"]  # IoU 4/8, 2/8 with the first, 2/4 of the last two


def factors(masks, classes, config: NMSConfig) -> np.ndarray:
    """Return the factors of masks sorted by score, the same by the fast and the plain version."""
    if isinstance(masks[0], str):
        masks = np.array([[pixel == "#" for pixel in row] for row in masks])
    masks, classes = np.asarray(masks, bool), np.asarray(classes, np.int64)
    areas = masks.sum(axis=1).astype(np.float32)
    fast = matrix_nms(np.packbits(masks, axis=1), areas, classes, config)
    plain = plain_matrix_nms(paddle.to_tensor(masks.astype(np.float32)), paddle.to_tensor(classes), config)
    np.testing.assert_allclose(fast, plain.numpy(), rtol=1e-5, atol=1e-6)
    assert fast.shape == (len(masks),) and fast.dtype == np.float32
    return fast


@pytest.mark.parametrize(
    ("masks", "config", "expected"),
    [
        # exp(-2 (1/3)^2) = 0.8007. The third meets only the second, which is overlapped just as much itself: exp(0).
        (CHAIN, GAUSSIAN, [1, 0.8007, 1]),
        # 1 - 1/3; the third (1 - 1/3) / (1 - 1/3).
        (CHAIN, LINEAR, [1, 0.6667, 1]),
        # exp(-2 (1/2)^2) = 0.6065. The third: min(exp(-2 (1/4)^2) = 0.8825, exp(-2/4 + 2/4) = 1).
        (NESTED, GAUSSIAN, [1, 0.6065, 0.8825]),
        # 1 - 1/2. The third: min(1 - 1/4, (1 - 1/2) / (1 - 1/2)).
        (NESTED, LINEAR, [1, 0.5, 0.75]),
        # exp(-2) = 0.1353 from the first; from the second exp(-2 + 2) = 1.
        (IDENTICAL, GAUSSIAN, [1, 0.1353, 0.1353]),
        # 1 - 1 = 0 from the first; the second would say (1 - 1) / (1 - 1) of the third and has no say.
        (IDENTICAL, LINEAR, [1, 0, 0]),
    ],
)
def test_worked_out_by_hand(masks, config, expected):
    np.testing.assert_allclose(factors(masks, [4, 4, 4], config), expected, atol=1e-4)


def test_sigma_is_the_strength_of_the_gaussian():
    # exp(-0.5 (1/2)^2) = 0.8825
    assert factors(NESTED[:2], [0, 0], replace(GAUSSIAN, sigma=0.5))[1] == pytest.approx(0.8825, abs=1e-4)


@pytest.mark.parametrize("config", [GAUSSIAN, LINEAR])
def test_only_masks_of_one_class_meet(config):
    assert (factors(IDENTICAL, [0, 1, 2], config) == 1).all()
    assert (factors(IDENTICAL[:1], [5], config) == 1).all()
    between = factors([NESTED[0], IDENTICAL[0], NESTED[1]], [7, 3, 7], config)
    np.testing.assert_allclose(between[[0, 2]], factors(NESTED[:2], [7, 7], config), atol=1e-6)
    assert between[1] == 1


def paper(masks: np.ndarray, classes: np.ndarray, config: NMSConfig) -> np.ndarray:
    """Return min over all i of f(iou_ij) / f(compensation_i), over all pairs, in float64."""
    masks = masks.astype(np.float64)
    intersection = masks @ masks.T
    areas = masks.sum(axis=1)
    iou = intersection / (areas[:, None] + areas[None] - intersection)
    iou = np.triu(iou * (classes[:, None] == classes[None]), k=1)
    compensation = iou.max(axis=0)[:, None]
    if config.kernel == "gaussian":
        return np.min(np.exp(-config.sigma * iou**2) / np.exp(-config.sigma * compensation**2), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nanmin((1 - iou) / (1 - compensation), axis=0)


@settings(max_examples=100)
@given(
    count=st.integers(1, 9),
    templates=st.integers(1, 9),
    categories=st.integers(1, 4),
    sigma=st.sampled_from([0.5, 2.0]),
    kernel=st.sampled_from(["gaussian", "linear"]),
    many=st.sampled_from([0, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_formula_over_all_pairs(count, templates, categories, sigma, kernel, many, seed):
    random = np.random.default_rng(seed)
    shapes = random.random((templates, 135)) < random.uniform(0.1, 1)
    shapes[:, 0] = True  # an empty mask never gets here
    masks = shapes[random.integers(0, templates, count)]  # equal masks are likely
    classes = random.integers(0, categories, count)
    config = NMSConfig(kernel=kernel, sigma=sigma)
    with patch("model.decode.fast_matrix_nms.MANY_WORDS", many):
        lowered = factors(masks, classes, config)
    np.testing.assert_allclose(lowered, paper(masks, classes, config), rtol=1e-4, atol=1e-6)


@settings(max_examples=20)
@given(rows=st.integers(1, 4), words=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_bits_are_counted_by_numpy_1_as_well(rows, words, seed):
    numbers = np.random.default_rng(seed).integers(0, 2**64, (rows, words), dtype=np.uint64)
    expected = [sum(bin(number).count("1") for number in row) for row in numbers.tolist()]
    assert _count_bits(numbers).tolist() == expected
    numpy_1 = SimpleNamespace(**{name: value for name, value in vars(np).items() if name != "bitwise_count"})
    with patch("model.decode.fast_matrix_nms.np", numpy_1):
        assert _count_bits(numbers).tolist() == expected
