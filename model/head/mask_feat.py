"""The mask feature branch of SOLOv2 (Wang et al. 2020, section 3.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import MaskFeatHeadConfig
from model.layers import ConvNorm, append_coordinates
from model.resize import doubled

LEVELS = 4  # P2 to P5
P2_STRIDE = 4


class MaskFeatHead(nn.Layer):
    """P2 to P5 to one map [N, out_channels, H / stride, W / stride], of stride 4 or 2.

    Level i is convolved and doubled i times until it has P2's size (P2 is convolved once); the sum goes through a 1x1
    convolution. P5 carries its coordinates.
    """

    def __init__(self, in_channels: int, config: MaskFeatHeadConfig) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "norm": "group",
            "norm_groups": config.norm_groups,
            "deform_version": config.deform_version,
            "deform_bias": config.deform_bias,
        }
        self.levels = nn.LayerList()
        for level in range(LEVELS):
            convs = nn.LayerList()
            for position in range(max(level, 1)):
                first = in_channels + (2 if level == LEVELS - 1 else 0)
                convs.append(ConvNorm(config.mid_channels if position else first, config.mid_channels, 3, **options))
            self.levels.append(convs)
        self.finer = P2_STRIDE // config.stride
        self.pred = ConvNorm(config.mid_channels, config.out_channels * self.finer**2, 1, **options)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        half_maps = []  # maps at half of P2's size; their sum is doubled once
        for convs, x in zip(self.levels[1:], features[1:]):
            if convs is self.levels[-1]:
                x = append_coordinates(x)
            x = convs[0](x)
            for conv in convs[1:]:
                x = conv(doubled(x))
            half_maps.append(x)
        feats = self.pred(self.levels[0][0](features[0]) + doubled(sum(half_maps[1:], half_maps[0])))
        return F.pixel_shuffle(feats, self.finer) if self.finer > 1 else feats
