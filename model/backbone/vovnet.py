"""VoVNetV2 (Lee and Park 2020): one-shot aggregation of chained convolutions, and attention over the channels."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import BackboneConfig
from model.layers import Conv2D, ConvNorm

STAGE_BLOCKS = {39: (1, 1, 2, 2), 57: (1, 1, 4, 3), 99: (1, 3, 9, 3)}
CHAINED = 5  # 3x3 convolutions of a block


class ESE(nn.Layer):
    """Effective squeeze and excitation: scale each channel by a weight computed from the means of all channels."""

    def __init__(self, channels: int, *, trainable: bool, lr_mult: float) -> None:
        super().__init__()
        attributes = paddle.ParamAttr(learning_rate=lr_mult, trainable=trainable)
        self.fc = Conv2D(channels, channels, 1, weight_attr=attributes, bias_attr=attributes)

    def forward(self, x: Tensor) -> Tensor:
        return x * (F.relu6(self.fc(x.mean(axis=[2, 3], keepdim=True)) + 3) * (1 / 6))


class OSABlock(nn.Layer):
    """One-shot aggregation: a convolution over the input and all outputs of a chain of convolutions.

    adds: the block adds its input to its output, as all blocks of a stage except the first do.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, *, adds: bool, **options: Any) -> None:
        super().__init__()
        inputs = (in_channels, *[width] * (CHAINED - 1))
        self.chain = nn.LayerList([ConvNorm(channels, width, 3, **options) for channels in inputs])
        self.concat = ConvNorm(in_channels + CHAINED * width, out_channels, 1, **options)
        self.ese = ESE(out_channels, trainable=options["trainable"], lr_mult=options["lr_mult"])
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.chain:
            parts.append(layer(parts[-1]))
        features = self.ese(self.concat(paddle.concat(parts, axis=1)))
        return features + x if self.adds else features


class VoVNet(nn.Layer):
    """[N, 3, H, W] to four maps [N, C_i, H / s, W / s], s = 4, 8, 16, 32; C_i in `out_channels`.

    H and W are multiples of 32.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.out_channels = config.stage_outputs
        norm: dict[str, Any] = {"norm": config.norm, "train_norm": config.train_norm}
        width = config.stem_channels
        shapes = ((3, width, 2), (width, width, 1), (width, 2 * width, 2))
        trained = config.frozen_stages < 1
        self.stem = nn.LayerList(
            [ConvNorm(before, after, 3, stride=stride, trainable=trained, **norm) for before, after, stride in shapes]
        )
        self.stages = nn.LayerList()
        in_channels = 2 * width
        for index, blocks in enumerate(STAGE_BLOCKS[config.depth]):
            options = {**norm, "trainable": index + 1 > config.frozen_stages, "lr_mult": config.lr_mults[index]}
            stage = nn.LayerList()
            for position in range(blocks):
                width, outputs = config.stage_channels[index], config.stage_outputs[index]
                stage.append(OSABlock(in_channels, width, outputs, adds=position > 0, **options))
                in_channels = outputs
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.stem:
            x = layer(x)
        features = []
        for index, stage in enumerate(self.stages):
            if index:
                # The same as `ceil_mode`, with which OpenVINO refuses maps that are smaller than the kernel.
                x = F.max_pool2d(x, kernel_size=3, stride=2, padding=[0, 1, 0, 1])
            for block in stage:
                x = block(x)
            features.append(x)
        return features
