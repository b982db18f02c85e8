"""What one step does to each parameter, the learning rate of each step, and the moving average of the weights."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from config import load_config
from config.base import TrainConfig
from config.errors import InputError
from tests.support import trainings
from tools.common.kinds import build_network
from tools.train.optimizer import (
    WeightAverage,
    build_optimizer,
    is_finite,
    learning_rate,
    trainable_parameters,
)

NARROW = (
    "backbone.stem_channels=8",
    "backbone.stage_channels=8,8,16,16",
    "neck.out_channels=16",
    "mask_feat_head.mid_channels=16",
    "mask_feat_head.out_channels=8",
    "mask_feat_head.norm_groups=8",
    "head.channels=16",
    "head.norm_groups=8",
    "head.stacked_convs=1",
)
OPTIMIZERS = ("momentum", "adam", "adamw")
LR = 0.5


def narrow_network(number: int, *overrides: str) -> tuple[nn.Layer, TrainConfig]:
    """The network of a config with few channels, and how it is trained."""
    paddle.seed(0)
    config = load_config(number, [*NARROW, *overrides])
    return build_network(config), config.train_cfg


def moved(network: nn.Layer, config: TrainConfig, gradient: float) -> dict[str, float]:
    """How far each parameter of 1.0 everywhere goes down in one step on the same gradient everywhere."""
    parameters = trainable_parameters(network)
    for parameter in parameters.values():
        parameter.set_value(paddle.ones_like(parameter))
        parameter.grad = paddle.full_like(parameter, gradient)
    optimizer = build_optimizer(network, config)
    optimizer.set_lr(LR)
    optimizer.step()
    return {name: 1 - float(parameter.numpy().mean(dtype=np.float64)) for name, parameter in parameters.items()}


def norm_names(network: nn.Layer) -> set[str]:
    return {name for name in trainable_parameters(network) if re.search(r"\bnorm\.(weight|bias)$", name)}


@pytest.mark.parametrize(
    ("number", "no_decay", "optimizer"),
    [
        (0, "norm,bias", "momentum"),
        (11, "norm", "momentum"),
        (11, "norm", "adamw"),
        (11, "", "adam"),
        (20, "norm,bias", "adam"),
        (20, "norm,bias", "adamw"),
        (20, "norm", "adam"),
        (20, "bias", "momentum"),
        (20, "bias", "adamw"),
        (20, "", "momentum"),
        (20, "", "adamw"),
    ],
)
def test_weight_decay_spares_what_the_config_says(number, no_decay, optimizer):
    network, config = narrow_network(
        number,
        "backbone.lr_mults=1,1,1,1",
        "train_cfg.weight_decay=0.1",
        "train_cfg.clip_norm=0",
        f"train_cfg.no_decay={no_decay}",
        f"train_cfg.optimizer={optimizer}",
    )
    spared = norm_names(network) if "norm" in no_decay else set()
    biases = {name for name in trainable_parameters(network) if name.endswith(".bias")} - norm_names(network)
    if "bias" in no_decay:
        spared |= biases
    elif number == 11:  # its `fast_biases`, whatever `no_decay` says
        spared |= {name for name in biases if ".conv." in name and not name.startswith("backbone.")}
        assert any(name.endswith(".conv.offset.bias") for name in spared)
    decayed = {name for name, distance in moved(network, config, gradient=0.0).items() if distance > 1e-5}
    assert decayed == trainable_parameters(network).keys() - spared
    assert "head.cate_pred.weight" in decayed


@pytest.mark.parametrize(
    ("places", "patterns"),
    [
        ("", ()),
        ("head", (r"^(head|mask_feat_head)\..*\.conv\.(offset\.)?bias$",)),
        ("neck", (r"^neck\..*\.bias$",)),
        ("head,neck", (r"^(head|mask_feat_head)\..*\.conv\.(offset\.)?bias$", r"^neck\..*\.bias$")),
    ],
)
def test_fast_biases_have_twice_the_learning_rate_and_no_decay(places, patterns):
    plain = "backbone.lr_mults=1,1,1,1", "train_cfg.clip_norm=0", "train_cfg.no_decay=", "train_cfg.weight_decay=0"
    network, config = narrow_network(11, *plain, f"train_cfg.fast_biases={places}")
    fast = {name for name in trainable_parameters(network) if any(re.search(pattern, name) for pattern in patterns)}
    assert bool(fast) == bool(places)
    for name, distance in moved(network, config, gradient=1.0).items():
        assert distance == pytest.approx(2 * LR if name in fast else LR, rel=1e-4), name
    network, config = narrow_network(11, *plain, f"train_cfg.fast_biases={places}", "train_cfg.weight_decay=0.1")
    kept = {name for name, distance in moved(network, config, gradient=0.0).items() if distance < 1e-5}
    assert kept == fast


def test_the_backbone_can_have_another_weight_decay():
    options = "train_cfg.clip_norm=0", "train_cfg.weight_decay=0.1", "train_cfg.optimizer=momentum"
    network, config = narrow_network(20, *options, "train_cfg.no_decay=", "train_cfg.backbone_decay=0.1")
    for name, distance in moved(network, config, gradient=0.0).items():
        decay = 0.01 if name.startswith("backbone.") else 0.1
        assert distance == pytest.approx(LR * decay, rel=1e-2), name
    with pytest.raises(InputError, match="backbone_decay=0.1: needs train_cfg.optimizer=momentum or adam"):
        load_config(20, ["train_cfg.backbone_decay=0.1"])


@pytest.mark.parametrize(("optimizer", "shrinks"), [("momentum", LR * 0.1), ("adam", LR), ("adamw", LR * 0.1)])
def test_decay_is_a_gradient_or_decoupled(optimizer, shrinks):
    """Adam makes a full step of whatever its gradient is, and weight decay is part of that."""
    network, config = narrow_network(
        20, f"train_cfg.optimizer={optimizer}", "train_cfg.weight_decay=0.1", "train_cfg.clip_norm=0"
    )
    distance = moved(network, config, gradient=0.0)["head.cate_pred.weight"]
    assert distance == pytest.approx(shrinks, rel=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_learning_rate_multipliers_act(optimizer):
    network, config = narrow_network(
        11,
        "backbone.frozen_stages=0",
        "train_cfg.weight_decay=0",
        "train_cfg.clip_norm=0",
        f"train_cfg.optimizer={optimizer}",
    )
    multipliers = (0.05, 0.05, 0.1, 0.15)
    offsets = 0
    for name, distance in moved(network, config, gradient=1.0).items():
        expected = 1.0
        stage = re.match(r"backbone\.stages\.(\d)", name)
        if ".offset." in name or name.endswith(".conv.bias"):
            offsets += 1
            expected = 2.0 if not stage and name.endswith(".bias") else 1.0
        elif stage or name.startswith("backbone.stem."):
            expected = multipliers[int(stage[1]) if stage else 0]
        assert distance == pytest.approx(LR * expected, rel=1e-3), name
    assert offsets


@pytest.mark.parametrize(("number", "frozen"), [(0, 1), (0, 0), (3, 2), (11, 4)])
def test_frozen_stages_have_nothing_to_train(number, frozen):
    network, _ = narrow_network(number, f"backbone.frozen_stages={frozen}")
    parts = {name.split(".")[2] for name in trainable_parameters(network) if name.startswith("backbone.stages.")}
    assert parts == {str(stage) for stage in range(frozen, 4)}
    assert any(name.startswith("backbone.stem.") for name in trainable_parameters(network)) == (frozen == 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_frozen_does_not_move(optimizer):
    network, config = narrow_network(3, "train_cfg.weight_decay=0.1", f"train_cfg.optimizer={optimizer}")
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    trained = moved(network, config, gradient=1.0).keys()
    after = network.state_dict()
    fixed = before.keys() - trained
    assert any(name.endswith("._mean") for name in fixed) and any(name.startswith("backbone.stem.") for name in fixed)
    for name in fixed:
        np.testing.assert_array_equal(after[name].numpy(), before[name], err_msg=name)


@pytest.mark.parametrize(("clip_norm", "expected"), [(5.0, 5.0), (0.0, None), (1e6, None)])
def test_gradients_are_clipped_by_their_norm_together(clip_norm, expected):
    network, config = narrow_network(
        20,
        f"train_cfg.clip_norm={clip_norm:g}",
        "train_cfg.optimizer=momentum",
        "train_cfg.weight_decay=0",
    )
    sizes = {name: parameter.size for name, parameter in trainable_parameters(network).items()}
    distances = moved(network, config, gradient=0.5)
    together = math.sqrt(sum(sizes[name] * distance**2 for name, distance in distances.items())) / LR
    assert together == pytest.approx(expected or 0.5 * math.sqrt(sum(sizes.values())), rel=1e-3)


def rates(config: TrainConfig, *, total_batch: int = 16, steps_per_epoch: int = 10) -> list[float]:
    """Of every step and of the one that would follow the last."""
    return [
        learning_rate(step, config=config, steps_per_epoch=steps_per_epoch, total_batch=total_batch)
        for step in range(config.epochs * steps_per_epoch + 1)
    ]


STEADY = replace(TrainConfig(), lr=0.01, lr_batch=16, epochs=6, milestones=(3, 5), warmup_iters=0)


def test_the_piecewise_rate_falls_at_the_end_of_its_epochs():
    expected = [0.01] * 30 + [0.001] * 20 + [0.0001] * 11
    assert rates(STEADY) == pytest.approx(expected)
    assert rates(replace(STEADY, milestones=(5, 3))) == pytest.approx(expected)
    assert rates(replace(STEADY, milestones=())) == pytest.approx([0.01] * 61)


def test_the_cosine_ends_at_zero():
    found = rates(replace(STEADY, schedule="cosine"))
    assert (found[0], found[30]) == pytest.approx((0.01, 0.005))
    assert found[-1] == pytest.approx(0, abs=1e-12)
    assert found[-2] > 0
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("schedule", ["piecewise", "cosine"])
def test_the_warm_up_is_a_line_up_to_the_schedule(schedule):
    config = replace(STEADY, schedule=schedule)
    steady = rates(config)
    warm = rates(replace(config, warmup_iters=8, warmup_factor=0.25))
    shares = [rate / full for rate, full in zip(warm[:-1], steady)]
    assert shares[:8] == pytest.approx([0.25 + 0.75 * step / 8 for step in range(8)])
    assert shares[8:] == pytest.approx([1.0] * 52)
    assert rates(replace(config, warmup_iters=8, warmup_factor=0.0))[0] == 0
    capped = rates(replace(config, warmup_iters=500, warmup_factor=0.0))
    assert capped == rates(replace(config, warmup_iters=20, warmup_factor=0.0))  # of 60 steps


def test_the_rate_follows_the_total_batch_or_not():
    assert rates(STEADY, total_batch=4)[0] == pytest.approx(0.0025)
    assert rates(STEADY, total_batch=64)[0] == pytest.approx(0.04)
    assert rates(replace(STEADY, autoscale_lr=False), total_batch=4)[0] == pytest.approx(0.01)


@pytest.mark.parametrize(("value", "finite"), [(1e30, True), (math.inf, False), (-math.inf, False), (math.nan, False)])
def test_one_value_that_is_no_number_is_found(value, finite):
    tensors = [paddle.zeros([3, 2]), paddle.to_tensor([0.0, value]), paddle.zeros([])]
    assert is_finite(tensors) is finite


def disturb(network: nn.Layer, seed: int) -> None:
    """Other values everywhere, in the statistics of norms too."""
    rng = np.random.default_rng(seed)
    for value in network.state_dict().values():
        value.set_value(rng.uniform(0.1, 1, value.shape).astype(np.float32))


def test_the_average_follows_its_formula(network):
    """Statistics of norms included; the first steps count more than the decay says."""
    average = WeightAverage(network, decay=0.5)
    expected = trainings.arrays_of(network)
    assert any(name.endswith("._variance") for name in expected)
    for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5)):
        disturb(network, step)
        average.update(step)
        for name, value in trainings.arrays_of(network).items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    found = average.arrays()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_the_average_is_in_place_only_during_the_block(network):
    average = WeightAverage(network, decay=0.9)
    disturb(network, 1)
    average.update(100)
    raw, mean = trainings.arrays_of(network), average.arrays()

    def assert_weights(expected):
        for name, value in trainings.arrays_of(network).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)

    with average.swap_in():
        assert_weights(mean)
    assert_weights(raw)
    with pytest.raises(ZeroDivisionError), average.swap_in():
        disturb(network, 2)
        raise ZeroDivisionError
    assert_weights(raw)
    for name, value in average.arrays().items():
        np.testing.assert_array_equal(value, mean[name], err_msg=name)


def test_an_average_is_loaded(network):
    first, second = WeightAverage(network, decay=0.9), WeightAverage(network, decay=0.9)
    disturb(network, 1)
    first.update(100)
    second.load(first.arrays())
    disturb(network, 2)
    for average in (first, second):
        average.update(101)
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], value, err_msg=name)


def test_half_precision_weights_have_an_average_in_single_precision():
    """A step of a large decay is less than a float16 can show."""
    layer = nn.Linear(1, 1)
    layer.to(dtype="float16")
    layer.weight.set_value(np.float16([[0.0]]))
    average = WeightAverage(layer, decay=0.9999)
    assert average.arrays()["weight"].dtype == np.float32
    layer.weight.set_value(np.float16([[1.0]]))
    for step in range(100_000, 100_010):
        average.update(step)
    assert average.arrays()["weight"].item() == pytest.approx(1 - 0.9999**10, rel=1e-3)
    with average.swap_in():
        assert layer.weight.dtype == paddle.float16
        assert layer.weight.item() == pytest.approx(0.001, rel=1e-2)
    assert layer.weight.item() == 1
