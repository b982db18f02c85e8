"""MobileNetV3-Large (Howard et al. 2019), as in PaddleDetection 0.5's SOLOv2."""

from __future__ import annotations

from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import BackboneConfig
from model.layers import Conv2D, ConvNorm


class BlockShape(NamedTuple):
    """One row of the paper's table 1."""

    kernel: int
    expansion: int  # channels of the depthwise convolution
    channels: int  # of the output
    attention: bool  # squeeze and excitation
    hard_swish: bool  # the activation, else ReLU


STEM_CHANNELS = 16
LAST_CHANNELS = 960
# A stage ends before the next block with a stride, which is the first of the next stage.
STAGES = (
    (
        BlockShape(3, 16, 16, False, False),
        BlockShape(3, 64, 24, False, False),
        BlockShape(3, 72, 24, False, False),
    ),
    (
        BlockShape(5, 72, 40, True, False),
        BlockShape(5, 120, 40, True, False),
        BlockShape(5, 120, 40, True, False),
    ),
    (
        BlockShape(3, 240, 80, False, True),
        BlockShape(3, 200, 80, False, True),
        BlockShape(3, 184, 80, False, True),
        BlockShape(3, 184, 80, False, True),
        BlockShape(3, 480, 112, True, True),
        BlockShape(3, 672, 112, True, True),
    ),
    (
        BlockShape(5, 672, 160, True, True),
        BlockShape(5, 960, 160, True, True),
        BlockShape(5, 960, 160, True, True),
    ),
)


class SqueezeExcitation(nn.Layer):
    """Scale each channel by a weight computed from the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int, *, trainable: bool, lr_mult: float) -> None:
        super().__init__()
        attributes = paddle.ParamAttr(learning_rate=lr_mult, trainable=trainable)
        options: dict[str, Any] = {"weight_attr": attributes, "bias_attr": attributes}
        self.squeeze = Conv2D(channels, channels // 4, 1, **options)
        self.excite = Conv2D(channels // 4, channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(F.relu(self.squeeze(x.mean(axis=[2, 3], keepdim=True))))
        return x * F.hardsigmoid(weights, slope=0.2, offset=0.5)  # PaddleDetection's slope; the paper has 1/6


class InvertedResidual(nn.Layer):
    """Expand by a 1x1 convolution, convolve each channel alone, attend, and project to fewer channels."""

    def __init__(self, in_channels: int, shape: BlockShape, *, stride: int, **options: Any) -> None:
        super().__init__()
        width = shape.expansion
        activated = {**options, "activation": F.hardswish if shape.hard_swish else F.relu}
        self.expand = ConvNorm(in_channels, width, 1, **activated)
        self.depthwise = ConvNorm(width, width, shape.kernel, stride=stride, groups=width, **activated)
        training = {name: options[name] for name in ("trainable", "lr_mult")}
        self.attention = SqueezeExcitation(width, **training) if shape.attention else None
        self.project = ConvNorm(width, shape.channels, 1, activation=None, **options)
        self.adds = stride == 1 and in_channels == shape.channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the expanded input, which the pyramid takes from the first block of a stage."""
        expanded = self.expand(x)
        y = self.depthwise(expanded)
        if self.attention is not None:
            y = self.attention(y)
        y = self.project(y)
        return x + y if self.adds else y, expanded


class MobileNetV3(nn.Layer):
    """[N, 3, H, W] to four maps [N, C_i, H / s, W / s], s = 4, 8, 16, 32; C_i in `out_channels`.

    The maps are the expanded inputs of the first blocks of stages 2 to 4, before their stride, and a last 1x1
    convolution.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.out_channels = (*(blocks[0].expansion for blocks in STAGES[1:]), LAST_CHANNELS)
        norm: dict[str, Any] = {"norm": config.norm, "train_norm": config.train_norm}
        stem = {**norm, "trainable": config.frozen_stages < 1, "lr_mult": config.lr_mults[0]}
        self.stem = nn.LayerList([ConvNorm(3, STEM_CHANNELS, 3, stride=2, activation=F.hardswish, **stem)])
        self.stages = nn.LayerList()
        in_channels = STEM_CHANNELS
        for index, blocks in enumerate(STAGES):
            options = {**norm, "trainable": index + 1 > config.frozen_stages, "lr_mult": config.lr_mults[index]}
            stage = nn.LayerList()
            for position, shape in enumerate(blocks):
                stride = 2 if position == (1 if index == 0 else 0) else 1  # the first block of all has none
                stage.append(InvertedResidual(in_channels, shape, stride=stride, **options))
                in_channels = shape.channels
            self.stages.append(stage)
        self.last = ConvNorm(in_channels, LAST_CHANNELS, 1, activation=F.hardswish, **options)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.stem:
            x = layer(x)
        features = []
        for index, stage in enumerate(self.stages):
            for position, block in enumerate(stage):
                x, expanded = block(x)
                if index and not position:
                    features.append(expanded)
        return [*features, self.last(x)]
