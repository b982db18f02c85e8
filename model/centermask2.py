"""CenterMask2 (Lee and Park 2020): boxes by FCOS, and for each box a mask by SAG-Mask with an estimate of its IoU."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import Config
from model.backbone.build import build_backbone
from model.head.fcos import FCOSHead
from model.head.roi_align import ROI_LEVELS
from model.head.sag_mask import RoIHead
from model.neck.fpn import FPNToP7


class CenterMask2(nn.Layer):
    """Two parts with decisions between them: `forward` gives raw predictions, `roi_head` masks of chosen boxes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone)
        channels = config.neck.out_channels
        self.neck = FPNToP7(self.backbone.out_channels[-ROI_LEVELS:], config.neck)
        self.head = FCOSHead(channels, config.num_classes, config.head)
        self.roi_head = RoIHead(channels, config.num_classes, config.roi)
        self.config = config

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw predictions of a batch, before any decision; there is no branch that depends on the data.

        images: float32 [N, 3, H, W], normalised, H and W multiples of 32. The probabilities of the locations' classes
        [N, locations, classes], their centerness [N, locations], their distances [N, locations, 4] as of the head, and
        what RoIAlign cuts from: [N, C, H / s, W / s], s = 8, 16, 32.
        """
        maps, pyramid = self.trunk(images)
        return (*self.scores(maps), *pyramid)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """All but the last layers of the boxes, which are not for lower precision: a pixel is less than its last bit.

        What boxes are made of, [N, channels, h, w] of each level of both towers, and what RoIAlign cuts from.
        """
        features = self.neck(self.backbone(images)[-ROI_LEVELS:])
        return self.head.towers(features), features[:ROI_LEVELS]

    def scores(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As in `forward`: probabilities, centerness and distances."""
        found = self.head.predictions(maps)
        return F.sigmoid(found.logits), F.sigmoid(found.centre_logits), found.distances
