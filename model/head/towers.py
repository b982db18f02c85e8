"""The common parts of the heads of the SOLO family: levels, towers, the class prediction, points NMS."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import HeadConfig
from model.layers import Conv2D, ConvNorm
from model.resize import halved, resize_bilinear, shape_of

PRIOR_PROBABILITY = 0.01  # of an object in a cell before training, as in focal loss (Lin et al. 2017)


class CellHead(nn.Layer, ABC):
    """The head of a grid: P2 to P6 to class logits [N, classes, S, S] and the mask inputs, lists by level.

    `num_grids` has an entry for each level, from P2 on. A subclass adds `cate_pred`.
    """

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, mask_outputs = self.towers(features)
        return self.cate_logits(cate_features), mask_outputs

    @abstractmethod
    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features for the class logits, [N, channels, S, S] of each level, and the mask inputs."""

    def cate_logits(self, cate_features: Sequence[Tensor]) -> list[Tensor]:
        return [self.cate_pred(cate) for cate in cate_features]


def split_levels(features: Sequence[Tensor]) -> list[Tensor]:
    """Resize maps of strides 4, 8, 16, 32, 64 to strides 8, 8, 16, 32, 32, as in the original SOLO."""
    first, *middle, last = features
    return [halved(first), *middle, resize_bilinear(last, shape_of(middle[-1])[2:])]


def tower(in_channels: int, config: HeadConfig, *, bias: bool = False) -> nn.Sequential:
    """Return `stacked_convs` convolutions in a row; the last one or all of them are deformable if the config asks for
    it.

    bias: of those that are not deformable.
    """
    layers = []
    for position in range(config.stacked_convs):
        deformable = config.deform_all or position == config.stacked_convs - 1
        layers.append(
            ConvNorm(
                config.channels if position else in_channels,
                config.channels,
                3,
                norm="group",
                norm_groups=config.norm_groups,
                deform_version=config.deform_version if deformable else 0,
                deform_bias=config.deform_bias,
                bias=bias,
            )
        )
    return nn.Sequential(*layers)


def prediction(in_channels: int, out_channels: int, kernel_size: int, *, prior: bool) -> Conv2D:
    """Return the last convolution of a branch. prior: its initial outputs are logits of PRIOR_PROBABILITY."""
    small = paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.01))
    bias = nn.initializer.Constant(-math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
    return Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        weight_attr=small,
        bias_attr=paddle.ParamAttr(initializer=bias) if prior else None,
    )


def points_nms(scores: Tensor) -> Tensor:
    """Keep a cell only where it is the maximum of itself and its upper, left and upper-left neighbours.

    scores: [N, C, S, S] class probabilities, after the sigmoid.
    Returns the same shape, 0 where suppressed; equal neighbours all survive, as in the original SOLO.
    """
    peaks = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]  # [N, C, S, S]
    return scores * (peaks == scores).astype(scores.dtype)


def cell_scores(cate_logits: Sequence[Tensor]) -> Tensor:
    """Return the scores of raw predictions, [N, cells, classes], from logits [N, classes, S, S] of each level."""
    return cells_in_rows([points_nms(F.sigmoid(level)) for level in cate_logits])


def cells_in_rows(levels: Sequence[Tensor]) -> Tensor:
    """Concatenate [N, C, S, S] of each level to [N, cells, C], row by row."""
    return paddle.concat([level.flatten(start_axis=2).transpose([0, 2, 1]) for level in levels], axis=1)
