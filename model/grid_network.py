"""What the networks of the SOLO family have in common: backbone, pyramid, and scores for the cells of grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from paddle import Tensor, nn

from config.base import Config
from model.backbone.resnet import ResNet
from model.head.grid_losses import LossSum, PictureTargets
from model.head.towers import cell_scores
from model.neck.fpn import FPN

Raw = Sequence[Tensor]  # raw predictions: the scores of cells, and what their masks are made of


class GridNetwork(nn.Layer, ABC):
    """A subclass adds `head`, whose `cate_logits` makes category logits of features."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = ResNet(config.backbone)
        self.neck = FPN(self.backbone.out_channels, config.neck)
        self.loss = config.loss
        self.mask_strides = config.head.mask_strides

    def forward(self, images: Tensor) -> Raw:
        """What the network says about a batch, before any decision; there is no branch that depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. The first tensor is scores [N, cells,
        classes], the cells of all levels row by row: a probability, 0 where a neighbouring cell is more probable.
        """
        cate_features, *rest = self.trunk(images)
        return (self.scores(cate_features), *rest)

    @abstractmethod
    def trunk(self, images: Tensor) -> tuple[list[Tensor] | Tensor, ...]:
        """All but the scores, which compare cells for equality and so are not for lower precision.

        The first item is what the scores are made of, [N, channels, S, S] of each level.
        """

    def scores(self, cate_features: Sequence[Tensor]) -> Tensor:
        """As in `forward`."""
        return cell_scores(self.head.cate_logits(cate_features))

    @abstractmethod
    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        """The losses of a batch by name; images as in `forward`, one item of `targets` for each."""
