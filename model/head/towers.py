"""What the heads of the SOLO family have in common: levels, towers, the category prediction, points-NMS."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import HeadConfig
from model.layers import Conv2D, ConvNorm
from model.resize import resize_bilinear, shape_of

PRIOR_PROBABILITY = 0.01  # of an object in a cell before training, as in focal loss (Lin et al. 2017)


class CellHead(nn.Layer, ABC):
    """P2 to P6 to category logits [N, classes, S, S] and what masks are made of, lists by level.

    There are as many levels as `num_grids` has entries, from P2 on. A subclass has `cate_pred`.
    """

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, of_masks = self.towers(features)
        return self.cate_logits(cate_features), of_masks

    @abstractmethod
    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the category logits are made of, [N, channels, S, S] of each level, and what masks are made of."""

    def cate_logits(self, cate_features: Sequence[Tensor]) -> list[Tensor]:
        return [self.cate_pred(cate) for cate in cate_features]


def split_levels(features: Sequence[Tensor]) -> list[Tensor]:
    """Strides 4, 8, 16, 32, 64 to 8, 8, 16, 32, 32: the first is halved, the last gets its neighbour's size."""
    first, *middle, last = features
    height, width = shape_of(first)[2:]
    return [resize_bilinear(first, (height // 2, width // 2)), *middle, resize_bilinear(last, shape_of(middle[-1])[2:])]


def tower(in_channels: int, config: HeadConfig, *, bias: bool = False) -> nn.Sequential:
    """`stacked_convs` convolutions in a row, the last one or all of them deformable where the config says so.

    bias: in those that are not.
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
    """The last convolution of a branch; prior: its outputs begin as logits of PRIOR_PROBABILITY."""
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

    scores: [N, C, S, S] category probabilities, after the sigmoid.
    Returns the same shape, 0 where suppressed; equal neighbours all survive, as in the original SOLO.
    """
    peaks = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]  # [N, C, S, S]
    return scores * (peaks == scores).astype(scores.dtype)


def cell_scores(cate_logits: Sequence[Tensor]) -> Tensor:
    """Logits [N, classes, S, S] of each level to the scores of raw predictions."""
    return cells_in_rows([points_nms(F.sigmoid(level)) for level in cate_logits])


def cells_in_rows(levels: Sequence[Tensor]) -> Tensor:
    """[N, C, S, S] of each level to [N, cells, C]."""
    return paddle.concat([level.flatten(start_axis=2).transpose([0, 2, 1]) for level in levels], axis=1)
