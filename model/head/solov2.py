"""The class and kernel branches of SOLOv2 (Wang et al. 2020, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

from config.base import HeadConfig
from model.head.towers import CellHead, prediction, split_levels, tower
from model.layers import DropBlock, coordinates_of
from model.resize import resize_bilinear


class SOLOv2Head(CellHead):
    """P2 to P6 to class logits [N, classes, S, S] and kernels [N, kernel_channels, S, S], lists by level."""

    def __init__(self, in_channels: int, kernel_channels: int, num_classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.num_grids = config.num_grids
        self.cate_convs = tower(in_channels, config)
        self.kernel_convs = tower(in_channels + 2, config)
        self.cate_pred = prediction(config.channels, num_classes, 3, prior=True)
        self.kernel_pred = prediction(config.channels, kernel_channels, 3, prior=False)
        self.drop = DropBlock(block_size=3, keep_prob=0.9) if config.drop_block else None

    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, kernels = [], []
        for feature, grid in zip(split_levels(features), self.num_grids):
            coordinates = resize_bilinear(coordinates_of(feature), (grid, grid))  # [N, 2, S, S]
            resized = resize_bilinear(feature, (grid, grid))  # [N, C, S, S]
            cate = self.cate_convs(resized)
            kernel = self.kernel_convs(paddle.concat([resized, coordinates], axis=1))
            if self.drop is not None:
                cate, kernel = self.drop(cate), self.drop(kernel)
            cate_features.append(cate)
            kernels.append(self.kernel_pred(kernel))
        return cate_features, kernels
