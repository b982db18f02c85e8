"""Layers compute the formulas of their papers, also where a kernel of Paddle computes them."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from model.layers import (
    Conv2D,
    Conv2DTranspose,
    ConvNorm,
    DeformConv2D,
    DropBlock,
    append_coordinates,
    norm_layer,
    running_statistics,
)
from model.resize import resize_bilinear


def random_tensor(shape, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def parameters_of(norm: nn.Layer) -> tuple[paddle.Tensor, paddle.Tensor]:
    return norm.weight, norm.bias


def fill(parameter: paddle.Tensor, values: np.ndarray) -> None:
    parameter.set_value(np.broadcast_to(values, parameter.shape).astype(np.float32))


class TestNormLayer:
    def test_frozen_norm_uses_its_running_statistics_in_training_too(self):
        norm = norm_layer("frozen", 2)
        fill(norm._mean, np.array([1.0, -1.0]))
        fill(norm._variance, np.array([4.0, 1.0]))
        norm.train()
        x = random_tensor([2, 2, 3, 5])
        expected = (x.numpy() - [[[1.0]], [[-1.0]]]) / np.sqrt([[[4.0]], [[1.0]]])
        np.testing.assert_allclose(norm(x).numpy(), expected, rtol=1e-4, atol=1e-5)
        assert norm._mean.tolist() == [1.0, -1.0]

    @pytest.mark.parametrize("kind", ["batch", "sync"])
    def test_the_others_use_the_batch_in_training_and_learn_its_statistics(self, kind):
        norm = norm_layer(kind, 2)
        norm.train()
        y = norm(random_tensor([4, 2, 8, 8]) * 3 + 7).numpy()
        np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-3)
        assert (norm._mean.numpy() > 0).all()

    @pytest.mark.parametrize(("kind", "count"), [("frozen", 0), ("group", 0), ("batch", 2), ("sync", 2)])
    def test_running_statistics_are_those_that_training_changes(self, kind, count):
        network = nn.Sequential(nn.Conv2D(3, 32, 1), nn.Sequential(norm_layer(kind, 32)))
        before = {name: value.numpy() for name, value in network.state_dict().items()}
        network(random_tensor([2, 3, 4, 4]))
        changed = [name for name, value in network.state_dict().items() if (value.numpy() != before[name]).any()]
        assert len(running_statistics(network)) == len(changed) == count

    @pytest.mark.skipif(not paddle.get_device().startswith("cpu"), reason="Paddle computes on a GPU here")
    def test_sync_is_a_plain_batch_norm_on_a_cpu(self):
        assert type(norm_layer("sync", 2)) is nn.BatchNorm2D

    def test_group_has_32_groups(self):
        y = norm_layer("group", 64)(random_tensor([2, 64, 3, 3])).numpy()
        np.testing.assert_allclose(y.reshape(2, 32, -1).mean(axis=2), 0, atol=1e-5)

    @pytest.mark.parametrize("kind", ["frozen", "batch", "sync"])
    def test_it_can_be_slower_or_frozen(self, kind):
        for parameter in parameters_of(norm_layer(kind, 32, lr_mult=0.1)):
            assert parameter.optimize_attr["learning_rate"] == 0.1 and parameter.trainable
        assert not any(parameter.trainable for parameter in parameters_of(norm_layer(kind, 32, trainable=False)))


def sample(channel: np.ndarray, y: float, x: float) -> float:
    """Return the bilinear value of a map [H, W] at a position; outside of the map all is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < channel.shape[0] and 0 <= column < channel.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * channel[row, column]
    return total


def deformable_convolution(x, weight, offset, mask, stride: int) -> np.ndarray:
    """Compute the formula pixel by pixel.

    x: [C, H, W]; weight: [O, C, k, k]; offset: [2k^2, H', W'], dy before dx in each tap; mask: [k^2, H', W'].
    """
    size = weight.shape[2]
    result = np.zeros((weight.shape[0], *offset.shape[1:]))
    for row, column in np.ndindex(*offset.shape[1:]):
        for tap, (i, j) in enumerate(np.ndindex(size, size)):
            y = row * stride - size // 2 + i + offset[2 * tap, row, column]
            x_ = column * stride - size // 2 + j + offset[2 * tap + 1, row, column]
            values = np.array([sample(channel, y, x_) for channel in x])
            result[:, row, column] += weight[:, :, i, j] @ values * mask[tap, row, column]
    return result


class TestBias:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize(
        "layer",
        [
            lambda: Conv2D(4, 6, 3, stride=2, padding=1, groups=2),
            lambda: Conv2D(4, 6, 3, bias_attr=False),
            lambda: Conv2DTranspose(4, 6, 2, stride=2),
        ],
    )
    def test_training_computes_what_prediction_does_and_learns_the_same(self, layer, dtype):
        layer, x = layer(), random_tensor([2, 4, 9, 10])
        if layer.bias is not None:
            fill(layer.bias, np.arange(6.0))
        outcomes = []
        for prepare in (layer.eval, layer.train):
            prepare()
            with paddle.amp.auto_cast(dtype="bfloat16", enable=dtype == "bfloat16"):
                y = layer(x)
            (y.astype("float32") ** 2).mean().backward()
            gradients = [parameter.grad.numpy() for parameter in layer.parameters()]
            outcomes.append([y.dtype, y.astype("float32").numpy(), *gradients])
            layer.clear_gradients()
        assert outcomes[0][0] == outcomes[1][0]
        tolerance = 1e-5 if dtype == "float32" else 1e-2
        for predicted, trained in zip(outcomes[0][1:], outcomes[1][1:]):
            np.testing.assert_allclose(trained, predicted, rtol=tolerance, atol=tolerance)


class TestDeformConv2D:
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize(("size", "groups", "bias"), [(3, 1, True), (3, 2, False), (1, 1, False)])
    @pytest.mark.parametrize("version", [1, 2])
    def test_without_offsets_it_is_a_convolution(self, version, size, groups, bias, stride):
        layer = DeformConv2D(4, 6, size, version=version, stride=stride, groups=groups, bias=bias)
        if bias:
            fill(layer.bias, np.arange(6))
        x = random_tensor([2, 4, 7, 9])
        plain = nn.functional.conv2d(
            x, layer.weight, layer.bias, stride=stride, padding=size // 2, groups=groups
        ).numpy()
        if version == 2:
            offsets_and_logits = np.r_[np.zeros(2 * size**2), np.full(size**2, 30.0)]  # sigmoid(30) is 1
            fill(layer.offset.bias, offsets_and_logits)
        np.testing.assert_allclose(layer(x).numpy(), plain, rtol=1e-4, atol=1e-5)

    def test_fresh_v2_halves_every_tap(self):
        layer = DeformConv2D(2, 2, 3, version=2)
        x = random_tensor([1, 2, 5, 5])
        plain = nn.functional.conv2d(x, layer.weight, padding=1).numpy()
        np.testing.assert_allclose(layer(x).numpy(), plain / 2, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(("shift", "moved"), [((1, 0), [[3.0, 4.0], [0.0, 0.0]]), ((0, 1), [[2.0, 0], [4.0, 0]])])
    def test_an_offset_is_dy_then_dx(self, shift, moved):
        layer = DeformConv2D(1, 1, 3, version=1)
        centre = np.zeros((3, 3))
        centre[1, 1] = 1
        fill(layer.weight, centre)
        offsets = np.zeros(18)
        offsets[8:10] = shift  # of the fifth tap
        fill(layer.offset.bias, offsets)
        x = paddle.to_tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        assert layer(x)[0, 0].tolist() == moved

    @settings(max_examples=15)
    @given(
        version=st.sampled_from([1, 2]),
        size=st.sampled_from([1, 3]),
        stride=st.sampled_from([1, 2]),
        reach=st.sampled_from([0.3, 2.0, 20.0]),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_equals_the_formula(self, version, size, stride, reach, seed):
        layer = DeformConv2D(2, 3, size, version=version, stride=stride)
        random = np.random.default_rng(seed)
        fill(layer.offset.weight, random.normal(scale=reach, size=layer.offset.weight.shape))
        fill(layer.offset.bias, random.normal(scale=reach, size=layer.offset.bias.shape))
        x = random_tensor([1, 2, 4, 5], seed)
        branch = layer.offset(x)[0].numpy().astype(np.float64)
        offset, logits = branch[: 2 * size**2], branch[2 * size**2 :]
        mask = 1 / (1 + np.exp(-logits)) if version == 2 else np.ones_like(offset[::2])
        expected = deformable_convolution(x[0].numpy(), layer.weight.numpy(), offset, mask, stride)
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", [nn.functional.relu, nn.functional.relu6, None])
def test_conv_norm_ends_with_its_activation(activation):
    paddle.seed(0)
    block = ConvNorm(3, 32, 3, norm="group", stride=2, activation=activation)
    x = random_tensor([2, 3, 8, 10])
    found = block(x)
    assert found.shape == [2, 32, 4, 5]
    plain = block.norm(block.conv(x))
    assert (plain < 0).any()
    assert (found == (activation(plain) if activation else plain)).all()


@pytest.mark.parametrize("deform_version", [0, 1, 2])
def test_conv_norm_hands_its_multiplier_to_convolution_and_norm(deform_version):
    block = ConvNorm(3, 32, 3, norm="batch", deform_version=deform_version, lr_mult=0.25)
    for parameter in (block.conv.weight, block.norm.weight, block.norm.bias):
        assert parameter.optimize_attr["learning_rate"] == 0.25


class TestDropBlock:
    def test_does_nothing_in_evaluation(self):
        drop = DropBlock(block_size=3, keep_prob=0.1)
        drop.eval()
        x = random_tensor([1, 2, 6, 6])
        assert (drop(x) == x).all()

    def test_drops_blocks_and_keeps_the_expectation(self):
        paddle.seed(0)
        drop = DropBlock(block_size=3, keep_prob=0.9)
        y = drop(paddle.ones([4, 64, 16, 16]))
        kept = y.numpy() > 0
        assert y.mean().item() == pytest.approx(1, abs=1e-4)
        assert len(np.unique(y.numpy()[kept])) == 1
        # gamma is chosen for blocks that do not overlap and fit in; the fraction is near 0.1, not at it.
        assert 0.09 < 1 - kept.mean() < 0.14
        assert union_of_blocks(~kept)

    def test_a_map_may_be_smaller_than_a_block(self):
        assert DropBlock(block_size=3, keep_prob=0.9)(paddle.ones([1, 2, 2, 2])).shape == [1, 2, 2, 2]


def union_of_blocks(dropped: np.ndarray) -> bool:
    """Return whether all true values of [N, C, H, W] form 3 x 3 squares, cut off at the borders."""
    height, width = dropped.shape[2:]
    padded = np.pad(dropped, [(0, 0), (0, 0), (2, 2), (2, 2)], constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    inside = windows[:, :, 1:-1, 1:-1].all(axis=(4, 5))  # the square around each position is dropped completely
    padded = np.pad(inside, [(0, 0), (0, 0), (1, 1), (1, 1)])
    covered = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).any(axis=(4, 5))
    return bool((covered[:, :, :height, :width] == dropped).all())


def test_resize_bilinear_puts_pixel_centres_at_half_integers():
    x = paddle.to_tensor([[[[0.0, 1.0]]]])
    assert resize_bilinear(x, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    assert resize_bilinear(x, (3, 4)).tolist() == [[[[0.0, 0.25, 0.75, 1.0]] * 3]]
    assert resize_bilinear(paddle.arange(6.0).reshape([1, 1, 1, 6]), (1, 3)).flatten().tolist() == [0.5, 2.5, 4.5]
    assert (resize_bilinear(x, (1, 2)) == x).all()


def test_coordinates_are_the_last_channels_x_before_y():
    x = random_tensor([2, 3, 3, 5])
    y = append_coordinates(x).numpy()
    assert (y[:, :3] == x.numpy()).all()
    np.testing.assert_allclose(y[1, 3], np.tile([-1, -0.5, 0, 0.5, 1], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(y[1, 4], np.tile([[-1], [0], [1]], (1, 5)), atol=1e-6)
    assert append_coordinates(random_tensor([1, 1, 1, 1]))[0, 1:].flatten().tolist() == [-1, -1]
