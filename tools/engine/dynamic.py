"""Paddle's dynamic graph: the network itself, layer by layer, as in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from config.base import Config
from tools.common.kinds import RawPredictions, Size, kind_of


class DynamicEngine:
    """Runs a network on the device that is selected."""

    def __init__(self, network: nn.Layer, config: Config) -> None:
        self.network = network
        self.config = config
        self.kind = kind_of(config)
        self.second_stage = self.kind.second_stage(network)

    def __call__(self, images: np.ndarray, sizes: Sequence[Size]) -> RawPredictions:
        """Return the raw predictions of a batch when they are computed.

        images: float32 [N, 3, H, W]; sizes: height and width of each picture within it.
        """
        with paddle.no_grad():
            raw = self.network(paddle.to_tensor(images))
        if paddle.get_device().startswith("gpu"):
            paddle.device.synchronize()
        return self.kind.complete(raw, sizes, self.config, self._run_second_stage)

    @paddle.no_grad()
    def _run_second_stage(self, features: Tensor, classes: np.ndarray) -> tuple[Tensor, Tensor]:
        assert self.second_stage is not None  # only a kind that has one calls this
        return self.second_stage(features, paddle.to_tensor(classes))
