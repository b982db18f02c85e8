"""Decoupled SOLO (Wang et al. 2019, section 5): as SOLO, with a map for each column and each row of a grid."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.decoupled_solo import DecoupledSOLOHead
from model.losses.grid import PictureTargets, product_dice


class DecoupledSOLO(GridNetwork):
    """Raw predictions: scores, and the mask logits [N, 2 S, h, w] of each level, S for columns and S for rows."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = DecoupledSOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def mask_inputs(self, features: Sequence[Tensor], mask_outputs: Sequence[Tensor]) -> list[Tensor]:
        return list(mask_outputs)

    def dice(self, mask_inputs: Sequence[Tensor], targets: Sequence[PictureTargets], height: int) -> Tensor:
        return product_dice(mask_inputs, targets, [height // level.shape[2] for level in mask_inputs])
