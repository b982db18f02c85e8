"""What an optimizer remembers goes with a training to the next process, parameter by parameter."""

from __future__ import annotations

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
from tools.train.optimizer import build_optimizer, load_optimizer_arrays, optimizer_arrays, trainable_parameters


def step_with(network: nn.Layer, optimizer: paddle.optimizer.Optimizer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for parameter in trainable_parameters(network).values():
        parameter.grad = paddle.to_tensor(rng.normal(size=parameter.shape).astype(np.float32))
    optimizer.step()
    optimizer.clear_grad()


def assert_goes_on(build, config: TrainConfig) -> dict[str, np.ndarray]:
    """A second network with the first one's weights and optimizer state makes the same next steps."""
    first, second = build(), build()
    names = [{parameter.name for parameter in trainable_parameters(network).values()} for network in (first, second)]
    assert names[0].isdisjoint(names[1]), "Paddle's running numbers are no longer counted through the process"
    optimizers = [build_optimizer(network, config) for network in (first, second)]
    for seed in range(3):
        step_with(first, optimizers[0], seed)
    arrays = optimizer_arrays(optimizers[0], first)
    second.set_state_dict(trainings.arrays_of(first))
    load_optimizer_arrays(optimizers[1], second, arrays)
    for seed in range(3, 5):
        for network, optimizer in zip((first, second), optimizers):
            step_with(network, optimizer, seed)
        expected = trainings.arrays_of(first)
        for name, value in trainings.arrays_of(second).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    after = [optimizer_arrays(optimizer, network) for network, optimizer in zip((first, second), optimizers)]
    assert after[0].keys() == after[1].keys() == arrays.keys()
    for key, value in after[0].items():
        np.testing.assert_array_equal(after[1][key], value, err_msg=key)
    return arrays


@pytest.mark.parametrize(
    ("optimizer", "quantities"),
    [("momentum", {"velocity_0"}), ("adam", None), ("adamw", None)],
)
def test_an_optimizer_goes_on_in_another_network(optimizer, quantities):
    config = load_config(trainings.CONFIG, [*trainings.OVERRIDES, f"train_cfg.optimizer={optimizer}"])
    arrays = assert_goes_on(lambda: build_network(config), config.train_cfg)
    quantities = quantities or {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
    parameters = trainable_parameters(build_network(config))
    assert arrays.keys() == {f"{name}|{quantity}" for name in parameters for quantity in quantities}


def test_master_weights_go_along(network):
    """Those of half precision, which a CPU does not make by itself."""
    config = load_config(trainings.CONFIG, trainings.OVERRIDES).train_cfg
    optimizer = build_optimizer(network, config)
    step_with(network, optimizer, 0)
    masters = {parameter.name: parameter.astype("float32") + 1 for parameter in trainable_parameters(network).values()}
    optimizer._master_weights = dict(masters)
    arrays = optimizer_arrays(optimizer, network)
    other = build_optimizer(network, config)
    load_optimizer_arrays(other, network, arrays)
    assert other._master_weights.keys() == masters.keys()
    for name, value in masters.items():
        np.testing.assert_array_equal(other._master_weights[name].numpy(), value.numpy())


class Nested(nn.Layer):
    """Parameters of different shapes, of which Paddle's names begin with each other."""

    built = 0

    def __init__(self) -> None:
        super().__init__()
        Nested.built += 1
        stem = f"w{Nested.built}"
        for size, (name, ending) in enumerate(zip("abcdef", ("", "_0", "_1", "_0_0", "_10", "_0.w_0")), start=2):
            setattr(self, name, self.create_parameter([size], attr=paddle.ParamAttr(name=stem + ending)))


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw"])
def test_a_name_that_begins_like_another_is_not_confused(optimizer):
    arrays = assert_goes_on(Nested, replace(TrainConfig(), optimizer=optimizer))
    for name, size in zip("abcdef", range(2, 8)):
        shapes = {array.shape for key, array in arrays.items() if key.startswith(f"{name}|") and "pow" not in key}
        assert shapes == {(size,)}


@pytest.mark.parametrize(
    "difference", ["train_cfg.optimizer=momentum", "backbone.frozen_stages=1", "backbone.train_norm=false"]
)
def test_the_state_of_another_optimizer_is_refused(network, difference):
    config = load_config(trainings.CONFIG, trainings.OVERRIDES)
    optimizer = build_optimizer(network, config.train_cfg)
    step_with(network, optimizer, 0)
    arrays = optimizer_arrays(optimizer, network)
    other = load_config(config, [difference])
    changed = build_network(other)
    with pytest.raises(InputError, match="optimizer, backbone.frozen_stages") as error:
        load_optimizer_arrays(build_optimizer(changed, other.train_cfg), changed, arrays)
    assert "\n" not in str(error.value)


def test_a_state_from_before_the_first_step_is_empty_and_fits(network):
    config = load_config(trainings.CONFIG, trainings.OVERRIDES).train_cfg
    optimizer = build_optimizer(network, config)
    assert optimizer_arrays(optimizer, network) == {}
    load_optimizer_arrays(optimizer, network, {})
    step_with(network, optimizer, 0)
