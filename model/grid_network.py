"""What the networks of the SOLO family have in common: backbone, pyramid, and scores for the cells of grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from config.base import Config
from model.backbone.build import build_backbone
from model.head.grid_losses import LossSum, PictureTargets, category_loss, nothing, pair_count
from model.head.towers import cell_scores, cells_in_rows
from model.neck.fpn import FPN


class GridNetwork(nn.Layer, ABC):
    """A subclass adds `head`, a CellHead."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone)
        self.neck = FPN(self.backbone.out_channels, config.neck)
        self.loss = config.loss
        self.mask_strides = config.head.mask_strides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw predictions of a batch, before any decision; there is no branch that depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. The first tensor is scores [N, cells,
        classes], the cells of all levels row by row: a probability, 0 where a neighbouring cell is more probable.
        """
        cate_features, parts = self.trunk(images)
        return (self.scores(cate_features), *parts)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """All but the scores, which compare cells for equality and so are not for lower precision.

        What the scores are made of, [N, channels, S, S] of each level, and what masks are made of.
        """
        features = self.neck(self.backbone(images))
        cate_features, from_head = self.head.towers(features)
        return cate_features, self.mask_parts(features, from_head)

    @abstractmethod
    def mask_parts(self, features: Sequence[Tensor], from_head: Sequence[Tensor]) -> list[Tensor]:
        """What masks are made of, from the pyramid and what the head makes of it."""

    def scores(self, cate_features: Sequence[Tensor]) -> Tensor:
        """As in `forward`."""
        return cell_scores(self.head.cate_logits(cate_features))

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        """Losses of a batch by name: `mask` (dice) and `category` (focal).

        images: as in `forward`, one item of `targets` for each. The mask loss is a mean over (cell, instance) pairs,
        the category loss is divided by the number of cells that have a class, and 1, as in the original SOLO. All of
        it is float32, in mixed precision too.
        """
        features = self.neck(self.backbone(images))
        cate_logits, from_head = self.head(features)
        parts = self.mask_parts(features, from_head)
        with paddle.amp.auto_cast(enable=False):
            dice = self.dice(parts, targets) + nothing(*features[len(cate_logits) :])
            return {
                "mask": LossSum(dice * self.loss.dice_weight, pair_count(targets)),
                "category": category_loss(cells_in_rows(cate_logits), targets, self.loss),
            }

    @abstractmethod
    def dice(self, parts: Sequence[Tensor], targets: Sequence[PictureTargets]) -> Tensor:
        """The sum of the dice losses of all pairs, from what `mask_parts` gave."""
