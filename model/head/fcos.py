"""The boxes of CenterMask2: an anchor-free detector of classes, centerness and boxes (FCOS, Tian et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import BOX_STRIDES, HeadConfig
from model.head.towers import cells_in_rows, prediction, tower


class LocationPredictions(NamedTuple):
    """The predictions of the locations of all levels, level by level and there row by row."""

    logits: Tensor  # [N, locations, classes]
    centre_logits: Tensor  # [N, locations], of the centerness
    distances: Tensor  # [N, locations, 4], to the left, upper, right and lower side of the box, in strides of the level


class FCOSHead(nn.Layer):
    """The head of FCOS: P3 to P7 to predictions of their locations. All levels share both towers."""

    def __init__(self, in_channels: int, num_classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.cate_convs = tower(in_channels, config, bias=True)
        self.box_convs = tower(in_channels, config, bias=True)
        self.cate_pred = prediction(config.channels, num_classes, 3, prior=True)
        self.box_pred = prediction(config.channels, 4, 3, prior=False)
        self.centre_pred = prediction(config.channels, 1, 3, prior=False)
        one = nn.initializer.Constant(1.0)
        self.scales = nn.ParameterList([self.create_parameter([1], default_initializer=one) for _ in BOX_STRIDES])

    def forward(self, features: Sequence[Tensor]) -> LocationPredictions:
        return self.predictions(self.towers(features))

    def towers(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the features of each level for the classes, then of each level for centerness and box.

        Each is [N, channels, h, w].
        """
        return [convs(feature) for convs in (self.cate_convs, self.box_convs) for feature in features]

    def predictions(self, maps: Sequence[Tensor]) -> LocationPredictions:
        """Return the predictions from the features that `towers` returned."""
        for_cate, for_box = maps[: len(BOX_STRIDES)], maps[len(BOX_STRIDES) :]
        # Reshaped, because a static graph cannot multiply by a parameter itself.
        scales = [scale.reshape([1, 1, 1, 1]) for scale in self.scales]
        distances = [F.relu(self.box_pred(level) * scale) for level, scale in zip(for_box, scales)]
        return LocationPredictions(
            cells_in_rows([self.cate_pred(level) for level in for_cate]),
            cells_in_rows([self.centre_pred(level) for level in for_box]).squeeze(2),
            cells_in_rows(distances),
        )
