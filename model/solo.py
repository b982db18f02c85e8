"""SOLO (Wang et al. 2019): backbone, pyramid, and a head with a mask for each cell of each level."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from config.base import Config
from model.grid_network import GridNetwork
from model.head.grid_losses import LossSum, PictureTargets, grid_losses, level_kernel_dice, nothing
from model.head.solo import SOLOHead
from model.head.towers import cells_in_rows


class SOLO(GridNetwork):
    """Its raw predictions are scores, kernels [cells, D + 1], and the mask features [N, D + 1, h, w] of each level.

    The first levels' mask features have a quarter of the input's size, the others a half or a quarter of that.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = SOLOHead(config.neck.out_channels, config.num_classes, config.head)

    def trunk(self, images: Tensor) -> tuple[list[Tensor] | Tensor, ...]:
        cate_features, mask_feats = self.head.towers(self.neck(self.backbone(images)))
        return (cate_features, self.head.kernels(), *mask_feats)

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        features = self.neck(self.backbone(images))
        cate_logits, mask_feats = self.head(features)
        kernels, unused = self.head.kernels(), features[len(mask_feats) :]
        return grid_losses(
            cells_in_rows(cate_logits),
            lambda: level_kernel_dice(kernels, mask_feats, targets, self.mask_strides) + nothing(*unused),
            targets,
            self.loss,
        )
