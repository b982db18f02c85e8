"""The dice loss in windows: its two versions agree, and it does not see what is outside."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from config.base import HeadConfig
from model.decode.windows import TERMS
from model.losses.common import CHUNK
from model.losses.windows import plain_window_dice, window_dice_loss

GRIDS = (4, 3)
CELLS = 16 + 9
CHANNELS = 5


def inputs(count: int, size: tuple[int, int], seed: int = 0):
    """Draw kernels of all cells, features, the cells and targets of `count` masks, and the targets."""
    rng = np.random.default_rng(seed)
    kernels = paddle.to_tensor(rng.normal(size=(CELLS, CHANNELS + TERMS)).astype(np.float32))
    feats = paddle.to_tensor(rng.normal(size=(CHANNELS, *size)).astype(np.float32))
    masks = paddle.to_tensor(rng.integers(0, 17, (3, *size)).astype(np.uint8))
    cells, rows = (paddle.to_tensor(rng.integers(0, high, count)) for high in (CELLS, 3))
    kernels.stop_gradient = feats.stop_gradient = False
    return kernels, feats, cells, rows, masks


def plain(kernels, feats, cells, rows, masks, head):
    return plain_window_dice(kernels.gather(cells), feats, cells, rows, masks, head)


def value_and_gradients(function, kernels, feats, *others):
    kernels.clear_grad()
    feats.clear_grad()
    value = function(kernels, feats, *others)
    (value * 1.7).backward()
    return float(value), kernels.grad.numpy(), feats.grad.numpy()


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 3])
@pytest.mark.parametrize(("size", "reach"), [((12, 20), 3), ((12, 20), 8), ((5, 30), 4), ((6, 6), 50)])
def test_both_versions_agree(count, size, reach):
    head = HeadConfig(num_grids=GRIDS, strides=(1, 1), reach=reach)
    given = inputs(count, size)
    value, *gradients = value_and_gradients(window_dice_loss, *given, head)
    expected_value, *expected = value_and_gradients(plain, *given, head)
    assert value == pytest.approx(expected_value, rel=1e-5)
    for found, gradient in zip(gradients, expected):
        np.testing.assert_allclose(found, gradient, atol=1e-5 * np.abs(gradient).max())


def test_what_is_outside_of_the_windows_changes_nothing():
    head = HeadConfig(num_grids=GRIDS, strides=(1, 1), reach=2)
    kernels, feats, _, rows, masks = inputs(1, (16, 16))
    cells = paddle.to_tensor([5])  # row 1, column 1 of the first grid: its window is rows and columns 4 to 7
    before = window_dice_loss(kernels, feats, cells, rows, masks, head)
    far = feats.clone()
    far[:, 8:], far[:, :, :4] = 9.0, -9.0
    full = masks.clone()
    full[:, :4] = 16
    assert float(window_dice_loss(kernels, far, cells, rows, full, head)) == float(before)
