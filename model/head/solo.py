"""The class and mask branches of SOLO (Wang et al. 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from config.base import HeadConfig
from model.head.towers import CellHead, prediction, split_levels, tower
from model.layers import append_coordinates
from model.resize import doubled, resize_bilinear


class SOLOHead(CellHead):
    """P2 to P6 to class logits [N, classes, S, S] and mask features [N, channels + 1, 2 h, 2 w], lists by level.

    A level has S * S masks, one for each cell, by a 1x1 convolution of its mask features. That is a matrix product with
    constant `kernels`, as in SOLOv2 with predicted ones, so that masks of single cells can be computed. The last
    channel of the features is 1, for the bias.
    """

    def __init__(self, in_channels: int, num_classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.num_grids = config.num_grids
        self.cate_convs = tower(in_channels, config)
        self.mask_convs = tower(in_channels + 2, config)
        self.cate_pred = prediction(config.channels, num_classes, 3, prior=True)
        self.mask_preds = nn.LayerList(
            [prediction(config.channels, grid * grid, 1, prior=True) for grid in config.num_grids]
        )

    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, mask_feats = [], []
        for feature, grid in zip(split_levels(features), self.num_grids):
            cate_features.append(self.cate_convs(resize_bilinear(feature, (grid, grid))))
            mask = self.mask_convs(append_coordinates(feature))
            mask_feats.append(doubled(paddle.concat([mask, paddle.ones_like(mask[:, :1])], axis=1)))
        return cate_features, mask_feats

    def kernels(self) -> Tensor:
        """Return weights and bias of each cell's mask, [cells, channels + 1]."""
        weights = paddle.concat([layer.weight.flatten(start_axis=1) for layer in self.mask_preds])
        biases = paddle.concat([layer.bias for layer in self.mask_preds])
        return paddle.concat([weights, biases.unsqueeze(1)], axis=1)
