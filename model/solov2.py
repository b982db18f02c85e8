"""SOLOv2 (Wang et al. 2020): backbone, pyramid, mask features, and a head that predicts a kernel for each cell."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.grid_losses import PictureTargets, kernel_dice
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head
from model.head.towers import cells_in_rows


class SOLOv2(GridNetwork):
    """Its raw predictions are scores, kernels [N, cells, D] and mask features [N, D, H / 4, W / 4]."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.neck.out_channels
        self.mask_feat_head = MaskFeatHead(channels, config.mask_feat_head)
        self.head = SOLOv2Head(channels, config.mask_feat_head.out_channels, config.num_classes, config.head)

    def mask_parts(self, features: Sequence[Tensor], from_head: Sequence[Tensor]) -> list[Tensor]:
        return [cells_in_rows(from_head), self.mask_feat_head(features)]

    def dice(self, parts: Sequence[Tensor], targets: Sequence[PictureTargets]) -> Tensor:
        return kernel_dice(*parts, targets, self.mask_strides[0])
