"""SOLOv2 (Wang et al. 2020): backbone, pyramid, mask features, and a head that predicts a kernel for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import Config
from model.backbone.resnet import ResNet
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head, points_nms
from model.head.solov2_loss import LossSum, PictureTargets, solov2_losses
from model.neck.fpn import FPN


class RawPredictions(NamedTuple):
    """What the network says about a batch, before any decision; cells are those of all levels, row by row.

    The path to it has no branch that depends on the data.
    """

    scores: Tensor  # [N, cells, classes] probability, 0 where a neighbouring cell is more probable
    kernels: Tensor  # [N, cells, D] weights of each cell's 1x1 convolution
    mask_feats: Tensor  # [N, D, H / 4, W / 4]


class SOLOv2(nn.Layer):
    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.neck.out_channels
        self.backbone = ResNet(config.backbone)
        self.neck = FPN(self.backbone.out_channels, config.neck)
        self.mask_feat_head = MaskFeatHead(channels, config.mask_feat_head)
        self.head = SOLOv2Head(channels, config.mask_feat_head.out_channels, config.num_classes, config.head)
        self.loss = config.loss

    def forward(self, images: Tensor) -> RawPredictions:
        """images: float32 [N, 3, H, W], normalised, H and W multiples of 32."""
        cate_features, kernels, mask_feats = self.trunk(images)
        return RawPredictions(self.scores(cate_features), kernels, mask_feats)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """All but the scores, which compare cells for equality and so are not for lower precision.

        Returns what the scores are made of, [N, channels, S, S] of each level, and kernels and mask features as in
        RawPredictions.
        """
        features = self.neck(self.backbone(images))
        cate_features, kernels = self.head.towers(features)
        return cate_features, cells_in_rows(kernels), self.mask_feat_head(features)

    def scores(self, cate_features: Sequence[Tensor]) -> Tensor:
        """As in RawPredictions."""
        return cell_scores(self.head.cate_logits(cate_features))

    def losses(self, images: Tensor, targets: Sequence[PictureTargets]) -> dict[str, LossSum]:
        """The losses of a batch by name; images as in `forward`, one item of `targets` for each."""
        features = self.neck(self.backbone(images))
        cate_logits, kernels = self.head(features)
        return solov2_losses(
            cells_in_rows(cate_logits), cells_in_rows(kernels), self.mask_feat_head(features), targets, self.loss
        )


def cell_scores(cate_logits: Sequence[Tensor]) -> Tensor:
    """Logits [N, classes, S, S] of each level to the scores of RawPredictions."""
    return cells_in_rows([points_nms(F.sigmoid(level)) for level in cate_logits])


def cells_in_rows(levels: Sequence[Tensor]) -> Tensor:
    """[N, C, S, S] of each level to [N, cells, C]."""
    return paddle.concat([level.flatten(start_axis=2).transpose([0, 2, 1]) for level in levels], axis=1)


def build_model(config: Config) -> SOLOv2:
    """The network of a config with freshly initialised weights, drawn from Paddle's generator (`paddle.seed`)."""
    return SOLOv2(config)
