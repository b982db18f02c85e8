"""SOLOv2 (Wang et al. 2020): backbone, pyramid, mask features, and a head that predicts a kernel for each cell."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head
from model.head.towers import cells_in_rows
from model.losses.grid import PictureTargets, kernel_dice


class SOLOv2(GridNetwork):
    """Raw predictions: scores, kernels [N, cells, D] and mask features [N, D, H / 4, W / 4]."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.neck.out_channels
        self.mask_feat_head = MaskFeatHead(channels, config.mask_feat_head)
        self.head = SOLOv2Head(channels, config.mask_feat_head.out_channels, config.num_classes, config.head)

    def mask_inputs(self, features: Sequence[Tensor], mask_outputs: Sequence[Tensor]) -> list[Tensor]:
        return [cells_in_rows(mask_outputs), self.mask_feat_head(features)]

    def dice(self, mask_inputs: Sequence[Tensor], targets: Sequence[PictureTargets], height: int) -> Tensor:
        kernels, mask_feats = mask_inputs
        return kernel_dice(kernels, mask_feats, targets, stride=height // mask_feats.shape[2])
