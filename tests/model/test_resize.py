"""Small maps are resized by two matrix products, which equal Paddle's bilinear interpolation."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle.nn import functional as F

from model import resize
from model.resize import LONGEST_BY_MATRIX, bilinear_matrix, halved, resize_bilinear

LONGEST = LONGEST_BY_MATRIX


def values_and_gradient(function, image: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = paddle.to_tensor(image)
    x.stop_gradient = False
    y = function(x)
    (y * paddle.to_tensor(weights)).sum().backward()
    return y.numpy(), x.grad.numpy()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((8, 12), (16, 24)),
        ((16, 24), (8, 12)),
        ((7, 5), (12, 12)),
        ((40, 56), (36, 36)),
        ((5, 5), (5, 5)),
        ((1, 1), (9, 4)),
        ((9, 4), (2, 2)),
        ((LONGEST, 3), (3, LONGEST)),
        ((LONGEST - 1, 3), (3, LONGEST)),
        ((LONGEST + 1, 3), (3, LONGEST)),
        ((3, 3), (LONGEST + 1, 2)),
    ],
)
def test_equals_bilinear_interpolation_forward_and_backward(before, after):
    rng = np.random.default_rng(3)
    image, weights = (rng.normal(size=(2, 3, *size)).astype(np.float32) for size in (before, after))
    ours = values_and_gradient(lambda x: resize_bilinear(x, after), image, weights)
    expected = values_and_gradient(
        lambda x: F.interpolate(x, size=after, mode="bilinear", align_corners=False), image, weights
    )
    for found, wanted in zip(ours, expected):
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_a_side_of_one_is_the_middle():
    image = paddle.arange(5 * 4, dtype="float32").reshape([1, 1, 5, 4])
    assert resize_bilinear(image, (1, 1)).item() == (2 * 4 + 1 + 2 * 4 + 2) / 2


@pytest.mark.parametrize(("side", "by_matrix"), [(LONGEST, True), (LONGEST + 1, False)])
def test_only_small_maps_are_multiplied_by_a_matrix(monkeypatch, side, by_matrix):
    def refuse(*_arguments, **_options):
        raise AssertionError("interpolated")

    monkeypatch.setattr(resize.F, "interpolate", refuse)
    for before, after in (((2, side), (2, 2)), ((2, 2), (side, 2))):
        if by_matrix:
            resize_bilinear(paddle.ones([1, 1, *before]), after)
        else:
            with pytest.raises(AssertionError, match="interpolated"):
                resize_bilinear(paddle.ones([1, 1, *before]), after)


@given(before=st.integers(1, 200), after=st.integers(1, 200))
def test_a_row_of_the_matrix_is_a_mean_of_neighbours(before, after):
    matrix = bilinear_matrix(before, after)
    assert matrix.shape == (after, before)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert all(np.ptp(np.flatnonzero(row)) <= 1 for row in matrix)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)
    if before == after:
        np.testing.assert_array_equal(matrix, np.eye(before))


@pytest.mark.parametrize("size", [(4, 4), (8, 6), (40, 130)])
def test_halving_is_bilinear(size):
    maps = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))
    expected = F.interpolate(maps, size=[side // 2 for side in size], mode="bilinear", align_corners=False)
    np.testing.assert_allclose(halved(maps).numpy(), expected.numpy(), atol=1e-6)
