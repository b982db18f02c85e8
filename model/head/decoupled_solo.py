"""The class branch and the two mask branches of Decoupled SOLO (Wang et al. 2019, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from config.base import HeadConfig
from model.head.towers import CellHead, prediction, split_levels, tower
from model.layers import coordinates_of
from model.resize import doubled, resize_bilinear


class DecoupledSOLOHead(CellHead):
    """P2 to P6 to class logits [N, classes, S, S] and mask logits [N, 2 S, 2 h, 2 w], lists by level.

    The first S mask logits of a level are those of its columns, the others those of its rows; the mask of a cell is the
    product of the probabilities of its column and of its row. The light models have one tower for both.
    """

    def __init__(self, in_channels: int, num_classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.num_grids = config.num_grids
        self.cate_convs = tower(in_channels, config)
        self.shared_tower = config.shared_tower
        if config.shared_tower:
            self.mask_convs = tower(in_channels + 2, config)
        else:
            self.x_convs = tower(in_channels + 1, config)
            self.y_convs = tower(in_channels + 1, config)
        self.cate_pred = prediction(config.channels, num_classes, 3, prior=True)
        self.x_preds, self.y_preds = (
            nn.LayerList([prediction(config.channels, grid, 3, prior=True) for grid in config.num_grids])
            for _ in range(2)
        )

    def towers(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cate_features, mask_logits = [], []
        for feature, grid, x_pred, y_pred in zip(split_levels(features), self.num_grids, self.x_preds, self.y_preds):
            cate_features.append(self.cate_convs(resize_bilinear(feature, (grid, grid))))
            x, y = self._mask_features(feature)
            mask_logits.append(paddle.concat([x_pred(x), y_pred(y)], axis=1))
        return cate_features, mask_logits

    def _mask_features(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Those of columns and of rows, at twice the size."""
        coordinates = coordinates_of(feature)
        if self.shared_tower:
            both = doubled(self.mask_convs(paddle.concat([feature, coordinates], axis=1)))
            return both, both
        x = self.x_convs(paddle.concat([feature, coordinates[:, :1]], axis=1))
        y = self.y_convs(paddle.concat([feature, coordinates[:, 1:]], axis=1))
        return doubled(x), doubled(y)
