"""SOLOv2 (Wang et al. 2020): backbone, pyramid, mask features, and a head that predicts a kernel for each cell."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.decode.windows import TERMS
from model.grid_network import GridNetwork
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head
from model.head.towers import cells_in_rows
from model.losses.grid import PictureTargets, kernel_dice


class SOLOv2(GridNetwork):
    """Raw predictions: scores, kernels [N, cells, D] and mask features [N, D, h, w], h = H / mask_feat_head.stride.

    With `head.reach`, kernels have TERMS more weights.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.neck.out_channels
        self.mask_feat_head = MaskFeatHead(channels, config.mask_feat_head)
        weights = config.mask_feat_head.out_channels + (TERMS if config.head.reach else 0)
        self.head = SOLOv2Head(channels, weights, config.num_classes, config.head)
        self.head_config = config.head

    def mask_inputs(self, features: Sequence[Tensor], mask_outputs: Sequence[Tensor]) -> list[Tensor]:
        return [cells_in_rows(mask_outputs), self.mask_feat_head(features)]

    def dice(self, mask_inputs: Sequence[Tensor], targets: Sequence[PictureTargets], height: int) -> Tensor:
        kernels, mask_feats = mask_inputs
        return kernel_dice(kernels, mask_feats, targets, height // mask_feats.shape[2], self.head_config)
