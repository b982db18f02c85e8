"""Decoupled SOLO (Wang et al. 2019, section 5): as SOLO, with a map for each column and each row of a grid."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.decoupled_solo import DecoupledSOLOHead
from model.head.grid_losses import PictureTargets, product_dice


class DecoupledSOLO(GridNetwork):
    """Its raw predictions are scores, and the mask logits [N, 2 S, h, w] of each level, as of the head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = DecoupledSOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def mask_parts(self, features: Sequence[Tensor], from_head: Sequence[Tensor]) -> list[Tensor]:
        return list(from_head)

    def dice(self, parts: Sequence[Tensor], targets: Sequence[PictureTargets]) -> Tensor:
        return product_dice(parts, targets, self.mask_strides)
