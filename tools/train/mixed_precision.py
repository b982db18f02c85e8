"""Training in float32, or in mixed precision on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from config.base import TrainConfig
from config.errors import InputError
from model.convolution import onednn_convolutions


class Precision:
    """float32, or Paddle's mixed precision with float16 on a GPU (Micikevicius et al. 2017).

    O1 runs selected operators in float16; O2 runs the whole network except its norms, with float32 master weights.
    Raises InputError on a CPU, where Paddle ignores both.
    """

    def __init__(self, network: nn.Layer, optimizer: Optimizer, config: TrainConfig) -> None:
        self.level = config.precision
        self.scaler = None
        if self.level == "fp32":
            return
        if not paddle.get_device().startswith("gpu"):
            raise InputError(
                f"train_cfg.precision={self.level}: Paddle's mixed precision does nothing on a CPU; use fp32 there"
            )
        if self.level == "O2":
            paddle.amp.decorate(network, optimizer, level="O2", dtype="float16")
        dynamic = config.loss_scale == 0
        scaling = {} if dynamic else {"init_loss_scaling": config.loss_scale}
        self.scaler = paddle.amp.GradScaler(use_dynamic_loss_scaling=dynamic, **scaling)

    def forward(self) -> AbstractContextManager:
        """Return the context to run the network's forward pass in."""
        if self.scaler is None:
            return onednn_convolutions()
        return paddle.amp.auto_cast(level=self.level, dtype="float16")

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of a loss, times the loss scale if there is one, to those of the parameters."""
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights and clear the gradients. With a loss scale, skip the update if a gradient overflowed."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        optimizer.clear_grad()

    def state(self) -> dict[str, float | np.ndarray]:
        """Return the state of the loss scale for a checkpoint; empty in float32."""
        state = {} if self.scaler is None else self.scaler.state_dict()
        return {name: np.asarray(value) if isinstance(value, paddle.Tensor) else value for name, value in state.items()}

    def load(self, state: Mapping[str, float | np.ndarray]) -> None:
        """Restore what `state` returned."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(state))
