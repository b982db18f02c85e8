"""The category and kernel branches of SOLOv2 (Wang et al. 2020, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import HeadConfig
from model.layers import ConvNorm, DropBlock, coordinates_of
from model.resize import resize_bilinear, shape_of

PRIOR_PROBABILITY = 0.01  # of an object in a cell before training, as in focal loss (Lin et al. 2017)


class SOLOv2Head(nn.Layer):
    """P2 to P6 to category logits [N, classes, S, S] and kernels [N, kernel_channels, S, S], lists by level.

    There are as many levels as `num_grids` has entries, from P2 on.
    """

    def __init__(self, in_channels: int, kernel_channels: int, num_classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.num_grids = config.num_grids
        self.cate_convs = _tower(in_channels, config)
        self.kernel_convs = _tower(in_channels + 2, config)
        small = paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.01))
        prior = nn.initializer.Constant(-math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
        self.cate_pred = nn.Conv2D(
            config.channels, num_classes, 3, padding=1, weight_attr=small, bias_attr=paddle.ParamAttr(initializer=prior)
        )
        self.kernel_pred = nn.Conv2D(config.channels, kernel_channels, 3, padding=1, weight_attr=small)
        self.drop = DropBlock(block_size=3, keep_prob=0.9) if config.drop_block else None

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, kernels = self.towers(features)
        return self.cate_logits(cate_features), kernels

    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the category logits are made of, [N, channels, S, S] of each level, and the kernels."""
        cate_features, kernels = [], []
        for feature, grid in zip(_split_levels(features), self.num_grids):
            coordinates = resize_bilinear(coordinates_of(feature), (grid, grid))  # [N, 2, S, S]
            cate = resize_bilinear(feature, (grid, grid))  # [N, C, S, S]
            kernel = paddle.concat([cate, coordinates], axis=1)
            for cate_conv, kernel_conv in zip(self.cate_convs, self.kernel_convs):
                cate, kernel = cate_conv(cate), kernel_conv(kernel)
            if self.drop is not None:
                cate, kernel = self.drop(cate), self.drop(kernel)
            cate_features.append(cate)
            kernels.append(self.kernel_pred(kernel))
        return cate_features, kernels

    def cate_logits(self, cate_features: Sequence[Tensor]) -> list[Tensor]:
        return [self.cate_pred(cate) for cate in cate_features]


def _tower(in_channels: int, config: HeadConfig) -> nn.LayerList:
    layers = nn.LayerList()
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
            )
        )
    return layers


def _split_levels(features: Sequence[Tensor]) -> list[Tensor]:
    """Strides 4, 8, 16, 32, 64 to 8, 8, 16, 32, 32: the first is halved, the last gets its neighbour's size."""
    first, *middle, last = features
    height, width = shape_of(first)[2:]
    return [resize_bilinear(first, (height // 2, width // 2)), *middle, resize_bilinear(last, shape_of(middle[-1])[2:])]


def points_nms(scores: Tensor) -> Tensor:
    """Keep a cell only where it is the maximum of itself and its upper, left and upper-left neighbours.

    scores: [N, C, S, S] category probabilities, after the sigmoid.
    Returns the same shape, 0 where suppressed; equal neighbours all survive, as in the original SOLO.
    """
    peaks = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]  # [N, C, S, S]
    return scores * (peaks == scores).astype(scores.dtype)
