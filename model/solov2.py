"""SOLOv2 (Wang et al. 2020): backbone, pyramid, mask features, and a head that predicts a kernel for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.grid_losses import LossSum, PictureTargets, grid_losses, kernel_dice
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head
from model.head.towers import cells_in_rows


class RawPredictions(NamedTuple):
    """What the network says about a batch, before any decision; cells are those of all levels, row by row."""

    scores: Tensor  # [N, cells, classes] probability, 0 where a neighbouring cell is more probable
    kernels: Tensor  # [N, cells, D] weights of each cell's 1x1 convolution
    mask_feats: Tensor  # [N, D, H / 4, W / 4]


class SOLOv2(GridNetwork):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.neck.out_channels
        self.mask_feat_head = MaskFeatHead(channels, config.mask_feat_head)
        self.head = SOLOv2Head(channels, config.mask_feat_head.out_channels, config.num_classes, config.head)

    def forward(self, images: Tensor) -> RawPredictions:
        return RawPredictions(*super().forward(images))

    def trunk(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        features = self.neck(self.backbone(images))
        cate_features, kernels = self.head.towers(features)
        return cate_features, cells_in_rows(kernels), self.mask_feat_head(features)

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        features = self.neck(self.backbone(images))
        cate_logits, kernels = self.head(features)
        kernels, mask_feats = cells_in_rows(kernels), self.mask_feat_head(features)
        return grid_losses(
            cells_in_rows(cate_logits),
            lambda: kernel_dice(kernels, mask_feats, targets, self.mask_strides[0]),
            targets,
            self.loss,
        )
