"""Dice and focal loss equal plain formulas, and every kind of batch gives finite gradients."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from config import load_config
from config.base import Config, HeadConfig, LossConfig
from data.samples import MaskWindow, Sample
from model.losses.common import CHUNK, SMOOTH, dynamic_dice_loss, focal_loss, product_dice_loss
from model.losses.grid import LossSum, PictureTargets, category_loss, kernel_dice, pair_count
from tests.support import tiny, trainings
from tools.common.kinds import build_network, descriptor
from tools.train.optimizer import trainable_parameters

FLOAT = 4  # bytes


def dice_inputs(p: int, *, dims: int = 6, pixels: int = 40, targets: int = 3, seed: int = 0):
    """Draw kernels of p cells, features, masks and rows; for p > targets several cells learn the same mask."""
    rng = np.random.default_rng(seed)
    kernels = paddle.to_tensor(rng.normal(size=(p, dims)).astype(np.float32))
    feats = paddle.to_tensor(rng.normal(size=(dims, pixels)).astype(np.float32))
    masks = paddle.to_tensor(rng.integers(0, 17, (targets, pixels)).astype(np.uint8))
    rows = paddle.to_tensor(rng.integers(0, targets, p))
    kernels.stop_gradient = feats.stop_gradient = False
    return kernels, feats, masks, rows


def plain_dice(kernels, feats, masks, rows):
    """Compute the formula of the original SOLO, which adds a constant to each sum of squares."""
    p = F.sigmoid(paddle.matmul(kernels, feats))
    t = masks.astype("float32").gather(rows) / 16
    return (1 - 2 * (p * t).sum(1) / ((p * p).sum(1) + SMOOTH + (t * t).sum(1) + SMOOTH)).sum()


def value_and_gradients(function, inputs):
    kernels, feats = inputs[:2]
    kernels.clear_grad()
    feats.clear_grad()
    value = function(*inputs)
    (value * 1.7).backward()
    return float(value), kernels.grad.numpy(), feats.grad.numpy()


@pytest.mark.parametrize("p", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 130])
def test_dice_and_its_gradients_are_those_of_the_formula(p):
    inputs = dice_inputs(p)
    value, *gradients = value_and_gradients(dynamic_dice_loss, inputs)
    expected_value, *expected_gradients = value_and_gradients(plain_dice, inputs)
    assert value == pytest.approx(expected_value, rel=1e-5)
    for found, expected in zip(gradients, expected_gradients):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_dice_gradients_are_finite_differences():
    """The differences are computed in float64, so that the step can be small."""
    kernels, feats, masks, rows = dice_inputs(5)
    _, *gradients = value_and_gradients(dynamic_dice_loss, (kernels, feats, masks, rows))
    arrays = [kernels.numpy().astype(np.float64), feats.numpy().astype(np.float64)]
    t = masks.numpy()[rows.numpy()] / 16

    def value() -> float:
        p = 1 / (1 + np.exp(-arrays[0] @ arrays[1]))
        return float((1 - 2 * (p * t).sum(1) / ((p * p).sum(1) + (t * t).sum(1) + 2 * SMOOTH)).sum())

    for array, gradient in zip(arrays, gradients):
        for place in ((0, 0), (1, 2), (4, 5)):
            before = array[place]
            array[place] = before + 1e-5
            above = value()
            array[place] = before - 1e-5
            below = value()
            array[place] = before
            assert gradient[place] == pytest.approx(1.7 * (above - below) / 2e-5, rel=1e-3, abs=1e-6)


def product_inputs(p: int, *, maps: int = 7, pixels: int = 40, targets: int = 3, seed: int = 0):
    """Draw maps, the two maps of each mask, masks and rows; masks may share a map or use one twice."""
    rng = np.random.default_rng(seed)
    values = paddle.to_tensor(rng.random((maps, pixels)).astype(np.float32), stop_gradient=False)
    masks = paddle.to_tensor(rng.integers(0, 17, (targets, pixels)).astype(np.uint8))
    places = (paddle.to_tensor(rng.integers(0, count, p)) for count in (maps, maps, targets))
    first, second, rows = places
    return values, first, second, masks, rows


def plain_product_dice(maps, firsts, seconds, masks, rows):
    p = maps.gather(firsts) * maps.gather(seconds)
    t = masks.astype("float32").gather(rows) / 16
    return (1 - 2 * (p * t).sum(1) / ((p * p).sum(1) + SMOOTH + (t * t).sum(1) + SMOOTH)).sum()


@pytest.mark.parametrize("p", [1, 2, CHUNK, CHUNK + 1, 130])
def test_product_dice_and_its_gradient_are_those_of_the_formula(p):
    inputs = product_inputs(p)
    found = []
    for function in (product_dice_loss, plain_product_dice):
        inputs[0].clear_grad()
        value = function(*inputs)
        (value * 1.7).backward()
        found.append((float(value), inputs[0].grad.numpy()))
    (value, gradient), (expected_value, expected) = found
    assert value == pytest.approx(expected_value, rel=1e-5)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_product_dice_keeps_its_maps_until_the_backward_pass_and_no_masks():
    p, pixels = 3 * CHUNK, 4096
    inputs = product_inputs(p, pixels=pixels)
    product_dice_loss(*inputs).backward()  # caches are filled once
    before = _allocated()
    value = product_dice_loss(*inputs)
    assert _allocated() - before < 0.1 * p * pixels * FLOAT
    value.backward()


def test_dice_of_a_perfect_and_of_a_wrong_mask():
    feats = paddle.to_tensor([[50.0, 50.0, -50.0, -50.0]])
    masks = paddle.to_tensor([[16, 16, 0, 0], [0, 0, 16, 16], [0, 0, 0, 0]], dtype="uint8")
    for row, loss in ((0, SMOOTH / 2), (1, 1.0), (2, 1.0)):
        found = dynamic_dice_loss(paddle.ones([1, 1]), feats, masks, paddle.to_tensor([row]))
        assert float(found) == pytest.approx(loss, abs=2e-4)


def test_dice_keeps_one_float_per_pixel_of_each_mask_until_the_backward_pass():
    """Measurement by Paddle's memory counter; the plain expression takes several times as much."""
    p, pixels = 3 * CHUNK, 4096
    inputs = dice_inputs(p, pixels=pixels)
    assert 1.0 <= held(dynamic_dice_loss, inputs) / (p * pixels * FLOAT) < 1.1
    assert held(plain_dice, inputs) / (p * pixels * FLOAT) > 2


def held(function, inputs) -> int:
    """Return the bytes that are allocated from the forward to the backward pass."""
    value_and_gradients(function, inputs)  # caches are filled once
    before = _allocated()
    value = function(*inputs)
    held = _allocated() - before
    value.backward()
    return held


def _allocated() -> int:
    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.memory_allocated()
    return paddle.base.core.host_memory_stat_current_value("Allocated", 0)


def focal_by_numpy(logits: np.ndarray, labels: np.ndarray, gamma: float, alpha: float) -> float:
    total = 0.0
    for row, label in zip(logits.astype(np.float64), labels):
        for number, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            if number == label:
                total -= alpha * (1 - p) ** gamma * math.log(p)
            else:
                total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (0.5, 0.75), (1.0, 0.0), (1.0, 1.0)])
def test_focal_loss_is_its_formula(gamma, alpha):
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (30, 5)).astype(np.float32)
    labels = rng.integers(-1, 5, 30)
    found = focal_loss(paddle.to_tensor(logits), paddle.to_tensor(labels), gamma=gamma, alpha=alpha)
    assert float(found) == pytest.approx(focal_by_numpy(logits, labels, gamma, alpha), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_extreme_logits_is_finite(gamma):
    """Correct logits have loss 0; wrong ones have their distance, with the gradient -alpha or 1 - alpha."""
    logits = paddle.to_tensor([[100.0, -100.0], [-100.0, 100.0], [20.0, -20.0], [0.0, 0.0]])
    logits.stop_gradient = False
    loss = focal_loss(logits, paddle.to_tensor([0, 0, 0, -1]), gamma=gamma, alpha=0.25)
    loss.backward()
    assert float(loss) == pytest.approx(0.25 * 100 + 0.75 * 100 + 2 * 0.75 * 0.5**gamma * math.log(2), rel=1e-5)
    gradient = logits.grad.numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[[0, 2]], 0, atol=1e-6)
    np.testing.assert_allclose(gradient[1], [-0.25, 0.75], rtol=1e-5)


def picture(labels: list[int], cells: list[int], rows: list[int], masks: int = 2) -> PictureTargets:
    """Return the targets of a picture of 2 x 4 pixels at 1/4 size; mask i covers column i."""
    pixels = np.zeros((masks, 2, 4), np.uint8)
    for number in range(masks):
        pixels[number, :, number] = 16
    return PictureTargets(
        labels=paddle.to_tensor(np.array(labels, np.int64)),
        masks={4: paddle.to_tensor(pixels)},
        cells=paddle.to_tensor(np.array(cells, np.int64)),
        mask_rows=paddle.to_tensor(np.array(rows, np.int64)),
        level_pairs=(len(cells),),
        positives=sum(label >= 0 for label in labels),
    )


def test_the_losses_of_a_batch_are_sums_with_their_counts():
    """In the first picture cell 2 learns two masks and two cells learn mask 0; the second picture has none."""
    rng = np.random.default_rng(5)
    cate, kernels = (paddle.to_tensor(rng.normal(size=(2, 3, n)).astype(np.float32)) for n in (2, 4))
    feats = paddle.to_tensor(rng.normal(size=(2, 4, 2, 4)).astype(np.float32))
    targets = [picture([0, -1, 1], [0, 2, 2], [0, 0, 1]), picture([-1, -1, -1], [], [], masks=0)]
    config = LossConfig(dice_weight=3.0, focal_gamma=2.0, focal_alpha=0.25)
    losses = {
        "mask": LossSum(3.0 * kernel_dice(kernels, feats, targets, 4, HeadConfig()), pair_count(targets)),
        "category": category_loss(cate, targets, config),
    }
    dice = plain_dice(
        kernels[0].gather(targets[0].cells), feats[0].flatten(1), targets[0].masks[4].flatten(1), targets[0].mask_rows
    )
    focal = focal_by_numpy(cate.numpy().reshape(6, 2), np.array([0, -1, 1, -1, -1, -1]), 2.0, 0.25)
    assert (losses["mask"].terms, losses["category"].terms) == (3, 2)
    assert float(losses["mask"].total) == pytest.approx(3 * float(dice), rel=1e-5)
    assert float(losses["category"].total) == pytest.approx(focal, rel=1e-5)
    assert float(losses["mask"].mean()) == pytest.approx(float(dice), rel=1e-5)
    assert float(losses["category"].mean()) == pytest.approx(focal / 3, rel=1e-5)


def test_a_loss_is_never_divided_by_zero():
    assert LossSum(paddle.zeros([]), 0).divisor(0) == 1
    assert LossSum(paddle.zeros([]), 0, extra=1).divisor(7) == 8


@pytest.fixture(scope="module", params=tiny.GRID_KINDS)
def network(request):
    paddle.seed(0)
    network = build_network(config_of(request.param))
    network.train()
    return request.param, network


def config_of(kind: str) -> Config:
    return load_config(trainings.CONFIG, [*trainings.OVERRIDES, f"head.kind={kind}"])


def squares(*sides: int) -> list[MaskWindow]:
    return [MaskWindow(5 * i % 20, 3 * i % 20, np.ones((side, side), np.uint8)) for i, side in enumerate(sides)]


BATCHES = {
    "nothing in the batch": ([], []),
    "nothing in the second picture": (squares(20, 10), []),
    "nothing in two of the levels": (squares(8), squares(9)),
    "in all levels": (squares(8, 22, 44), squares(40, 20)),
    "one pixel": (squares(1), squares(1, 1)),
    "five hundred": (squares(*[2 + i % 40 for i in range(500)]), squares(8)),
    "the same instance twice": (squares(20) * 2, squares(20) * 3),
}


@pytest.mark.parametrize("name", BATCHES)
def test_every_parameter_has_a_finite_gradient(network, name):
    kind, network = network
    config = config_of(kind)
    targets = []
    for masks in BATCHES[name]:
        boxes = np.array([(m.left, m.top, m.right, m.bottom) for m in masks], np.float32).reshape(-1, 4)
        classes = np.arange(len(masks)) % config.num_classes
        sample = Sample(np.zeros((64, 64, 3), np.uint8), masks, boxes, classes, "")
        targets.append(descriptor(kind).targets(sample, (64, 64), config))
    images = paddle.to_tensor(np.random.default_rng(6).normal(size=(2, 3, 64, 64)).astype(np.float32))
    network.clear_gradients()
    losses = network.losses(images, [descriptor(kind).target_tensors(target) for target in targets])
    assert losses["mask"].terms == sum(len(target.cells) for target in targets)
    assert losses["category"].terms == sum(int((target.labels >= 0).sum()) for target in targets)
    assert bool(losses["mask"].terms) == any(BATCHES[name])
    total = losses["mask"].mean() + losses["category"].mean()
    assert math.isfinite(float(total))
    total.backward()
    for parameter_name, parameter in trainable_parameters(network).items():
        assert parameter.grad is not None, parameter_name
        assert np.isfinite(parameter.grad.numpy()).all(), parameter_name
    branch = {"solov2": "kernel_pred", "solo": "mask_preds", "decoupled_solo": "x_preds"}[kind]
    gradients = [parameter.grad.abs().sum() for parameter in getattr(network.head, branch).parameters()]
    assert bool(sum(gradients) > 0) == any(BATCHES[name])
