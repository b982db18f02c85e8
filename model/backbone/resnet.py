"""ResNet (He et al. 2015) and ResNeXt (Xie et al. 2016), variants b and d of "Bag of Tricks" (He et al. 2018)."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.base import BackboneConfig
from model.layers import ConvNorm, stage_outputs

STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Shortcut(nn.Layer):
    """The projection of the identity in a block that changes the shape; variant d pools instead of striding in it."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, variant: str, **norm_options: Any) -> None:
        super().__init__()
        self.pool = variant == "d" and stride == 2
        stride = 1 if self.pool else stride
        self.projection = ConvNorm(in_channels, out_channels, 1, stride=stride, activation=None, **norm_options)

    def forward(self, x: Tensor) -> Tensor:
        if self.pool:
            x = F.avg_pool2d(x, kernel_size=2, stride=2, ceil_mode=True)
        return self.projection(x)


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int, config: BackboneConfig, **options: Any) -> None:
        super().__init__()
        options.pop("deform_version")  # config/checks.py allows deformable stages for bottlenecks only
        self.conv1 = ConvNorm(in_channels, width, 3, stride=stride, **options)
        self.conv2 = ConvNorm(width, width, 3, activation=None, **options)
        self.shortcut = None
        if stride != 1 or in_channels != width:
            self.shortcut = Shortcut(in_channels, width, stride=stride, variant=config.variant, **options)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.shortcut is None else self.shortcut(x)
        return F.relu(identity + self.conv2(self.conv1(x)))


class Bottleneck(nn.Layer):
    """1x1, 3x3 (strided, grouped in ResNeXt, deformable where asked for), 1x1 with four times the width."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, *, stride: int, config: BackboneConfig, deform_version: int, **options: Any
    ) -> None:
        super().__init__()
        inner = width * config.base_width // 64 * config.groups
        out_channels = width * self.expansion
        self.conv1 = ConvNorm(in_channels, inner, 1, **options)
        self.conv2 = ConvNorm(
            inner, inner, 3, stride=stride, groups=config.groups, deform_version=deform_version, **options
        )
        self.conv3 = ConvNorm(inner, out_channels, 1, activation=None, **options)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = Shortcut(in_channels, out_channels, stride=stride, variant=config.variant, **options)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.shortcut is None else self.shortcut(x)
        return F.relu(identity + self.conv3(self.conv2(self.conv1(x))))


class ResNet(nn.Layer):
    """[N, 3, H, W] to four maps [N, C_i, H / s, W / s], s = 4, 8, 16, 32; C_i in `out_channels`."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        block: type[BasicBlock | Bottleneck] = BasicBlock if config.depth < 50 else Bottleneck
        self.out_channels = tuple(width * block.expansion for width in config.stage_channels)
        self.stem = _stem(config)
        self.stages = nn.LayerList()
        in_channels = config.stem_channels
        for index, (blocks, width) in enumerate(zip(STAGE_BLOCKS[config.depth], config.stage_channels), start=1):
            options: dict[str, Any] = {
                "norm": config.norm,
                "train_norm": config.train_norm,
                "trainable": index > config.frozen_stages,
                "lr_mult": config.lr_mults[index - 1],
                "deform_version": config.deform_version if index in config.deform_stages else 0,
                "config": config,
            }
            stage = nn.LayerList()
            for position in range(blocks):
                stride = 2 if position == 0 and index > 1 else 1
                stage.append(block(in_channels, width, stride=stride, **options))
                in_channels = width * block.expansion
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.stem:
            x = layer(x)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        return stage_outputs(x, self.stages)


def _stem(config: BackboneConfig) -> nn.LayerList:
    options: dict[str, Any] = {
        "norm": config.norm,
        "train_norm": config.train_norm,
        "trainable": config.frozen_stages < 1,
        "lr_mult": config.lr_mults[0],
    }
    channels = config.stem_channels
    if config.variant == "b":
        return nn.LayerList([ConvNorm(3, channels, 7, stride=2, **options)])
    widths = ((3, channels // 2, 2), (channels // 2, channels // 2, 1), (channels // 2, channels, 1))
    return nn.LayerList([ConvNorm(before, after, 3, stride=stride, **options) for before, after, stride in widths])
