"""SOLO (Wang et al. 2019): backbone, pyramid, and a head with a mask for each cell of each level."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.solo import SOLOHead
from model.losses.grid import PictureTargets, level_kernel_dice


class SOLO(GridNetwork):
    """Raw predictions: scores, kernels [cells, D], and the mask features [N, D, h, w] of each level.

    By level, the mask features have 1/4, 1/4, 1/8, 1/16 and 1/16 of the input's size.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = SOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def mask_inputs(self, features: Sequence[Tensor], mask_outputs: Sequence[Tensor]) -> list[Tensor]:
        return [self.head.kernels(), *mask_outputs]

    def dice(self, mask_inputs: Sequence[Tensor], targets: Sequence[PictureTargets], height: int) -> Tensor:
        kernels, *mask_feats = mask_inputs
        return level_kernel_dice(kernels, mask_feats, targets, [height // level.shape[2] for level in mask_feats])
