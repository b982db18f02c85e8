"""oneDNN's convolutions of training are Paddle's, in values and gradients."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import convolution, onednn
from model.convolution import conv2d, onednn_convolutions

needs_onednn = pytest.mark.skipif(
    onednn.library() is None or not paddle.get_device().startswith("cpu"),
    reason="this Paddle brings no oneDNN 3, or computes on a GPU",
)


def random_tensor(shape, seed: int, *, learns: bool = True) -> paddle.Tensor:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return paddle.to_tensor(values, stop_gradient=not learns)


def outcomes(x, weight, **geometry) -> list[np.ndarray]:
    """Return the convolution and the gradients of its inputs that learn."""
    y = conv2d(x, weight, **geometry)
    if not y.stop_gradient:
        y.backward(random_tensor(y.shape, 2))
    found = [y.numpy(), *(value.grad.numpy() for value in (x, weight) if not value.stop_gradient)]
    x.clear_grad(), weight.clear_grad()
    return found


@needs_onednn
class TestConv2d:
    @settings(max_examples=40)
    @given(
        sides=st.tuples(st.integers(7, 20), st.integers(7, 20)),
        channels=st.sampled_from([(3, 8, 1), (16, 32, 1), (34, 5, 1), (32, 64, 4), (16, 16, 16)]),
        kernel=st.sampled_from([(3, 3), (1, 3), (7, 7)]),
        stride=st.integers(1, 2),
        padding=st.sampled_from([0, 1, (1, 3)]),
        learns=st.sampled_from([(True, True), (False, True), (True, False), (False, False)]),
        pictures=st.integers(1, 3),
    )
    def test_it_equals_that_of_paddle(self, sides, channels, kernel, stride, padding, learns, pictures):
        inputs, outputs, groups = channels
        x = random_tensor([pictures, inputs, *sides], 0, learns=learns[0])
        weight = random_tensor([outputs, inputs // groups, *kernel], 1, learns=learns[1])
        geometry = {"stride": stride, "padding": padding, "groups": groups}
        expected = outcomes(x, weight, **geometry)
        with onednn_convolutions():
            found = outcomes(x, weight, **geometry)
        assert len(found) == len(expected) == 1 + sum(learns)
        for values, right in zip(found, expected):
            np.testing.assert_allclose(values, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())

    def test_dilation_and_views_are_right(self):
        x, weight = random_tensor([1, 12, 20, 8], 0), random_tensor([4, 8, 3, 3], 1)
        expected = outcomes(x.transpose([0, 3, 1, 2]).detach(), weight, padding=2, dilation=2)
        with onednn_convolutions():
            found = outcomes(x.transpose([0, 3, 1, 2]).detach(), weight, padding=2, dilation=2)
        for values, right in zip(found, expected):
            np.testing.assert_allclose(values, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())

    def test_it_is_used_in_the_block_only_and_for_larger_kernels(self, monkeypatch):
        used = []
        monkeypatch.setattr(convolution, "_convolution", lambda *geometry: used.append(geometry))  # None: Paddle's
        x = random_tensor([1, 4, 8, 8], 0)
        large, small = random_tensor([4, 4, 3, 3], 1), random_tensor([4, 4, 1, 1], 1)
        conv2d(x, large)
        with onednn_convolutions():
            conv2d(x, small)
            assert not used
            conv2d(x, large)
        assert len(used) == 1


def test_without_the_library_paddle_computes(monkeypatch):
    monkeypatch.setattr(onednn, "library", lambda: None)
    convolution._convolution.cache_clear()
    x, weight = random_tensor([1, 4, 8, 8], 0), random_tensor([4, 4, 3, 3], 1)
    expected = conv2d(x, weight).numpy()
    with onednn_convolutions():
        np.testing.assert_array_equal(conv2d(x, weight).numpy(), expected)
    convolution._convolution.cache_clear()
