"""Decoupled SOLO (Wang et al. 2019, section 3.4): as SOLO, with a map for each column and each row of a grid."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.decoupled_solo import DecoupledSOLOHead
from model.head.grid_losses import LossSum, PictureTargets, grid_losses, nothing, product_dice
from model.head.towers import cells_in_rows


class DecoupledSOLO(GridNetwork):
    """Its raw predictions are scores, and the mask logits [N, 2 S, h, w] of each level, as of the head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = DecoupledSOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def trunk(self, images: Tensor) -> tuple[list[Tensor] | Tensor, ...]:
        cate_features, mask_logits = self.head.towers(self.neck(self.backbone(images)))
        return (cate_features, *mask_logits)

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        features = self.neck(self.backbone(images))
        cate_logits, mask_logits = self.head(features)
        unused = features[len(mask_logits) :]
        return grid_losses(
            cells_in_rows(cate_logits),
            lambda: product_dice(mask_logits, targets, self.mask_strides) + nothing(*unused),
            targets,
            self.loss,
        )
