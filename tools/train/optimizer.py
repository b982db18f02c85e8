"""The optimizer of a config, the learning rate of each step, and the moving average of the weights."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Adam, AdamW, Momentum, Optimizer
from paddle.regularizer import L2Decay

from config.base import TrainConfig
from config.errors import InputError
from model.layers import DeformConv2D
from tools.common.checkpoint import compare_shapes

_MASTER = "master_weight"
NORMS = (nn.BatchNorm2D, nn.SyncBatchNorm, nn.GroupNorm)


def trainable_parameters(network: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the parameters to train, by name. Paddle's parameters include the statistics of batch norms."""
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient}


def build_optimizer(network: nn.Layer, config: TrainConfig) -> Optimizer:
    """Build the optimizer of a network; give the result of `learning_rate` to its `set_lr` before each step.

    Weight decay is L2 regularisation with Momentum and Adam, and decoupled with AdamW (Loshchilov & Hutter 2017).
    `config.no_decay`, `config.fast_biases` and `config.backbone_decay` change it for some parameters.
    """
    parameters = trainable_parameters(network)
    fast = _fast_biases(network, config.fast_biases)
    undecayed = fast | _names_without_decay(network, config.no_decay)
    exempt = {parameter.name for name, parameter in parameters.items() if name in undecayed}
    for name, parameter in parameters.items():
        if name in fast:
            parameter.optimize_attr["learning_rate"] = 2.0
        if name in undecayed:
            parameter.regularizer = L2Decay(0.0)
        elif name.startswith("backbone.") and config.backbone_decay != 1:
            parameter.regularizer = L2Decay(config.weight_decay * config.backbone_decay)
        else:
            parameter.regularizer = None
    shared = {
        "parameters": list(parameters.values()),
        "learning_rate": config.lr,
        "weight_decay": config.weight_decay,
        "grad_clip": nn.ClipGradByGlobalNorm(config.clip_norm) if config.clip_norm else None,
    }
    if config.optimizer == "momentum":
        return Momentum(momentum=config.momentum, **shared)
    if config.optimizer == "adam":
        return Adam(**shared)
    return AdamW(apply_decay_param_fun=lambda name: name not in exempt, **shared)


def _names_without_decay(network: nn.Layer, kinds: tuple[str, ...]) -> set[str]:
    """Return the names of the parameters without weight decay; kinds: "norm", "bias" or both."""
    names = set()
    for prefix, layer in network.named_sublayers():
        for name, _ in layer.named_parameters(prefix=prefix, include_sublayers=False):
            if "norm" in kinds if isinstance(layer, NORMS) else "bias" in kinds and name.endswith(".bias"):
                names.add(name)
    return names


def _fast_biases(network: nn.Layer, places: tuple[str, ...]) -> set[str]:
    """Return the names of the biases that `TrainConfig.fast_biases` describes."""
    names = set()
    for prefix, layer in network.named_sublayers():
        part = prefix.partition(".")[0]
        if "neck" in places and part == "neck" and isinstance(layer, nn.Conv2D):
            names.add(f"{prefix}.bias")
        if "head" in places and part in ("head", "mask_feat_head") and isinstance(layer, DeformConv2D):
            names |= {f"{prefix}.bias", f"{prefix}.offset.bias"}
    return names


def learning_rate(step: int, *, config: TrainConfig, steps_per_epoch: int, total_batch: int) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then the schedule (Goyal et al. 2017).

    The warm-up takes at most a third of the training, so that a short training also reaches the full rate.
    """
    total_steps = config.epochs * steps_per_epoch
    warmup = min(config.warmup_iters, total_steps // 3)
    rate = config.lr * (total_batch / config.lr_batch if config.autoscale_lr else 1.0)
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / total_steps))
    else:
        rate *= config.gamma ** bisect.bisect_right(sorted(config.milestones), step // steps_per_epoch)
    if step < warmup:
        rate *= config.warmup_factor + (1 - config.warmup_factor) * step / warmup
    return rate


def is_finite(tensors: Sequence[paddle.Tensor]) -> bool:
    """Tell whether all values of all tensors are finite numbers."""
    return bool(paddle.stack([paddle.isfinite(tensor).all() for tensor in tensors]).all())


class WeightAverage:
    """Exponential moving average of a network's weights and batch norm statistics, kept on the device in float32.

    After step t, counted from 0, average = d * average + (1 - d) * weights with d = min(decay, (1 + t) / (10 + t)), so
    that the average follows the weights closely in the beginning.
    """

    def __init__(self, network: nn.Layer, decay: float) -> None:
        self.decay = decay
        self._live = network.state_dict()
        self._average = {name: value.detach().astype("float32").clone() for name, value in self._live.items()}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after this step, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, live in zip(self._average.values(), self._live.values()):
            average.scale_(1 - share)  # `lerp_` takes five times as long on a CPU
            average.add_(live.astype("float32") * share)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self._average.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `arrays` returned. Raises InputError if it was of another network."""
        shapes = ({name: tuple(value.shape) for name, value in of.items()} for of in (self._average, arrays))
        if differences := compare_shapes(*shapes):
            raise InputError(f"the saved moving average is of another network: {differences}; start another run")
        for name, value in self._average.items():
            value.set_value(arrays[name])

    @contextmanager
    def swap_in(self) -> Iterator[None]:
        """Give the network the averaged weights during the block, then its own again."""
        own = {name: value.detach().clone() for name, value in self._live.items()}
        try:
            self._copy_to_network(self._average)
            yield
        finally:
            self._copy_to_network(own)

    @paddle.no_grad()
    def _copy_to_network(self, values: Mapping[str, paddle.Tensor]) -> None:
        for name, live in self._live.items():
            live.set_value(values[name].astype(live.dtype))


def optimizer_arrays(optimizer: Optimizer, network: nn.Layer) -> dict[str, np.ndarray]:
    """Return the optimizer's state: `name of the parameter in the network|quantity` -> array.

    Paddle's own keys contain the parameter's running number in the process, which is another one in the next process.
    """
    names = {parameter.name: name for name, parameter in trainable_parameters(network).items()}
    state = optimizer.state_dict()
    masters = state.get("master_weights", {})  # float32 copies of the float16 parameters
    arrays = {f"{names[key]}|{_MASTER}": np.asarray(value) for key, value in masters.items()}
    for key, value in state.items():
        owner = _find_owner(key, names)
        if owner is not None:
            arrays[f"{names[owner]}|{key[len(owner) + 1 :]}"] = np.asarray(value)
    return arrays


def load_optimizer_arrays(optimizer: Optimizer, network: nn.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    """Restore the state of an optimizer from what `optimizer_arrays` returned, for a network with the same names.

    Raises InputError if the saved optimizer is of another kind or trained other parameters.
    """
    parameters = trainable_parameters(network)
    quantity_of_all = "velocity_0" if isinstance(optimizer, Momentum) else "moment1_0"
    if arrays and {key.partition("|")[0] for key in arrays if key.endswith(quantity_of_all)} != parameters.keys():
        raise InputError(
            "the saved optimizer state does not fit this run; resume with the train_cfg.optimizer, "
            "backbone.frozen_stages and backbone.train_norm that it was saved with"
        )
    state, masters = {}, {}
    for key, array in arrays.items():
        name, _, quantity = key.partition("|")
        if array.size > 1 and array.shape != tuple(parameters[name].shape):
            raise InputError(f"the saved optimizer state has {quantity} of another shape for {name}; start another run")
        own_name = parameters[name].name
        if quantity == _MASTER:
            masters[own_name] = paddle.to_tensor(array)
        else:
            state[f"{own_name}_{quantity}"] = paddle.to_tensor(array)
    optimizer.set_state_dict({**state, **({"master_weights": masters} if masters else {})})


def _find_owner(key: str, names: Mapping[str, str]) -> str | None:
    """Return the longest parameter name that a key of Paddle's optimizer state begins with, or None."""
    parts = key.split("_")
    candidates = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((name for name in candidates if name in names), None)
