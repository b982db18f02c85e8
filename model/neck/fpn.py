"""Feature pyramid network (Lin et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import NeckConfig
from model.layers import Conv2D
from model.resize import double_nearest


class FPN(nn.Layer):
    """Feature pyramid: maps of strides 4 to 32 to five maps of `out_channels` at strides 4 to 64 (P2 to P6).

    The top-down path enlarges by nearest neighbours; P6 is every second position of P5.
    """

    def __init__(self, in_channels: Sequence[int], config: NeckConfig) -> None:
        super().__init__()
        self.lateral_convs = nn.LayerList([Conv2D(c, config.out_channels, 1) for c in in_channels])
        self.output_convs = nn.LayerList(
            [Conv2D(config.out_channels, config.out_channels, 3, padding=1) for _ in in_channels]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        outputs = self.merged(features)
        return [*outputs, F.max_pool2d(outputs[-1], kernel_size=1, stride=2)]

    def merged(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return a map for each feature map, without the additional coarse ones."""
        merged = [lateral(feature) for lateral, feature in zip(self.lateral_convs, features)]
        for level in range(len(merged) - 1, 0, -1):
            merged[level - 1] = merged[level - 1] + double_nearest(merged[level])
        return [conv(feature) for conv, feature in zip(self.output_convs, merged)]


class FPNToP7(FPN):
    """Feature pyramid of FCOS: maps of strides 8 to 32 to five maps at strides 8 to 128 (P3 to P7).

    Convolutions compute the last two; half of an odd side is rounded up.
    """

    def __init__(self, in_channels: Sequence[int], config: NeckConfig) -> None:
        super().__init__(in_channels, config)
        self.p6, self.p7 = (Conv2D(config.out_channels, config.out_channels, 3, stride=2, padding=1) for _ in range(2))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        outputs = self.merged(features)
        p6 = self.p6(outputs[-1])
        return [*outputs, p6, self.p7(F.relu(p6))]
