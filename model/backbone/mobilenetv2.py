"""MobileNetV2 (Sandler et al. 2018): depthwise convolutions between a wide and a narrow 1x1 convolution."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import BackboneConfig
from model.layers import ConvNorm, stage_outputs

STEM_CHANNELS = 32
# Groups of blocks in each of the four stages: expansion, output channels, number of blocks, stride of the first one.
STAGE_GROUPS = (
    ((1, 16, 1, 1), (6, 24, 2, 2)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
STAGE_BLOCKS = tuple(sum(blocks for _, _, blocks, _ in groups) for groups in STAGE_GROUPS)


class InvertedResidual(nn.Layer):
    """1x1 to `expansion` times the width, depthwise 3x3, 1x1 without an activation; adds its input if shapes allow it.

    expansion: 1 leaves out the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int, **options: Any) -> None:
        super().__init__()
        width = expansion * in_channels
        self.expand = None
        if expansion > 1:
            self.expand = ConvNorm(in_channels, width, 1, activation=F.relu6, **options)
        self.depthwise = ConvNorm(width, width, 3, stride=stride, groups=width, activation=F.relu6, **options)
        self.project = ConvNorm(width, out_channels, 1, activation=None, **options)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand(x)
        narrow = self.project(self.depthwise(wide))
        return x + narrow if self.adds else narrow


class MobileNetV2(nn.Layer):
    """[N, 3, H, W] to four maps [N, C_i, H / s, W / s], s = 4, 8, 16, 32; C_i in `out_channels`.

    Width 1.0, without the last 1x1 convolution and the classifier. H and W are multiples of 32.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.out_channels = tuple(groups[-1][1] for groups in STAGE_GROUPS)
        norm: dict[str, Any] = {"norm": config.norm, "train_norm": config.train_norm}
        stem = {**norm, "trainable": config.frozen_stages < 1, "lr_mult": config.lr_mults[0]}
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2, activation=F.relu6, **stem)
        self.stages = nn.LayerList()
        in_channels = STEM_CHANNELS
        for index, groups in enumerate(STAGE_GROUPS):
            options = {**norm, "trainable": index + 1 > config.frozen_stages, "lr_mult": config.lr_mults[index]}
            stage = nn.LayerList()
            for expansion, outputs, blocks, first_stride in groups:
                for stride in (first_stride, *[1] * (blocks - 1)):
                    stage.append(InvertedResidual(in_channels, outputs, expansion=expansion, stride=stride, **options))
                    in_channels = outputs
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        return stage_outputs(self.stem(x), self.stages)
