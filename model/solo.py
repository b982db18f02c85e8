"""SOLO (Wang et al. 2019): backbone, pyramid, and a head with a mask for each cell of each level."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.grid_losses import PictureTargets, level_kernel_dice
from model.head.solo import SOLOHead


class SOLO(GridNetwork):
    """Its raw predictions are scores, kernels [cells, D], and the mask features [N, D, h, w] of each level.

    The first levels' mask features have a quarter of the input's size, the others a half or a quarter of that.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = SOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def mask_parts(self, features: Sequence[Tensor], from_head: Sequence[Tensor]) -> list[Tensor]:
        return [self.head.kernels(), *from_head]

    def dice(self, parts: Sequence[Tensor], targets: Sequence[PictureTargets]) -> Tensor:
        kernels, *mask_feats = parts
        return level_kernel_dice(kernels, mask_feats, targets, self.mask_strides)
