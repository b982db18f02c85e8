"""The common part of the SOLO family: backbone, pyramid, and scores for the cells of grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from config.base import Config
from model.backbone.build import build_backbone
from model.head.towers import CellHead, cell_scores, cells_in_rows
from model.losses.common import LossSum, zero_loss
from model.losses.grid import PictureTargets, category_loss, pair_count
from model.neck.fpn import FPN


class GridNetwork(nn.Layer, ABC):
    """A network that predicts an instance for each cell of a grid. A subclass adds its `head`."""

    head: CellHead

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone)
        self.neck = FPN(self.backbone.out_channels, config.neck)
        self.loss = config.loss

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the raw predictions of a batch; no branch depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. The first tensor is scores [N, cells,
        classes], cells of all levels row by row: probabilities, 0 where a neighbouring cell has a higher one. The
        others are the mask inputs; each subclass describes its own.
        """
        cate_features, mask_inputs = self.trunk(images)
        return (self.scores(cate_features), *mask_inputs)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Compute everything except the scores, which compare cells for equality and so need full precision.

        Returns the features for the scores, [N, channels, S, S] of each level, and the mask inputs.
        """
        features = self.neck(self.backbone(images))
        cate_features, mask_outputs = self.head.towers(features)
        return cate_features, self.mask_inputs(features, mask_outputs)

    @abstractmethod
    def mask_inputs(self, features: Sequence[Tensor], mask_outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the mask inputs from the pyramid and the head's outputs for masks (in SOLOv2 kernels)."""

    def scores(self, cate_features: Sequence[Tensor]) -> Tensor:
        """Return the scores of `forward` from the features that `trunk` returns for them."""
        return cell_scores(self.head.cate_logits(cate_features))

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        """Return the losses of a batch: `mask` (dice) and `category` (focal).

        images: as in `forward`, one item of `targets` for each. The mask loss is a mean over pairs of a cell and an
        instance; the `category` loss is divided by the number of cells with a class, plus 1, as in the original SOLO.
        Losses are float32, in mixed precision too.
        """
        features = self.neck(self.backbone(images))
        cate_logits, mask_outputs = self.head(features)
        mask_inputs = self.mask_inputs(features, mask_outputs)
        with paddle.amp.auto_cast(enable=False):
            # Levels of the pyramid without a grid, as in config 20, get gradients of 0.
            dice = self.dice(mask_inputs, targets, images.shape[2]) + zero_loss(*features[len(cate_logits) :])
            return {
                "mask": LossSum(dice * self.loss.dice_weight, pair_count(targets)),
                "category": category_loss(cells_in_rows(cate_logits), targets, self.loss),
            }

    @abstractmethod
    def dice(self, mask_inputs: Sequence[Tensor], targets: Sequence[PictureTargets], height: int) -> Tensor:
        """Return the sum of the dice losses of all pairs. height: of the network's input."""
