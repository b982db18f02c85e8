"""VoVNetV2 (Lee and Park 2020): one-shot aggregation of chained convolutions, and attention over the channels."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import BackboneConfig
from model.layers import Conv2D, ConvNorm, conv_weight

STAGE_BLOCKS = {19: (1, 1, 1, 1), 39: (1, 1, 2, 2), 57: (1, 1, 4, 3), 99: (1, 3, 9, 3)}
CHAINED = {19: 3, 39: 5, 57: 5, 99: 5}  # 3x3 convolutions of a block


class DepthwiseConvNorm(nn.Layer):
    """Depthwise 3x3 convolution, then a 1x1 convolution with normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, **options: Any) -> None:
        super().__init__()
        attribute = conv_weight(9, trainable=options["trainable"], lr_mult=options.get("lr_mult", 1.0))
        self.depthwise = Conv2D(
            in_channels,
            in_channels,
            3,
            stride=stride,
            padding=1,
            groups=in_channels,
            weight_attr=attribute,
            bias_attr=False,
        )
        self.pointwise = ConvNorm(in_channels, out_channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


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

    layers: length of the chain. depthwise: its convolutions are depthwise-separable; a 1x1 convolution brings their
    input to their width. deform_version: of the chain. adds: the block adds its input to its output, as all blocks of a
    stage except the first do.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        layers: int,
        adds: bool,
        depthwise: bool = False,
        deform_version: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.reduction = None
        if depthwise:
            if in_channels != width:
                self.reduction = ConvNorm(in_channels, width, 1, **options)
            chain = [DepthwiseConvNorm(width, width, **options) for _ in range(layers)]
        else:
            inputs = (in_channels, *[width] * (layers - 1))
            chain = [ConvNorm(channels, width, 3, deform_version=deform_version, **options) for channels in inputs]
        self.chain = nn.LayerList(chain)
        self.concat = ConvNorm(in_channels + layers * width, out_channels, 1, **options)
        self.ese = ESE(out_channels, trainable=options["trainable"], lr_mult=options["lr_mult"])
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        features = x if self.reduction is None else self.reduction(x)
        for layer in self.chain:
            features = layer(features)
            parts.append(features)
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
        self.stem = _stem(config, trainable=config.frozen_stages < 1, lr_mult=config.lr_mults[0], **norm)
        self.stages = nn.LayerList()
        in_channels = _stem_outputs(config)
        for index, blocks in enumerate(STAGE_BLOCKS[config.depth]):
            options = {
                **norm,
                "trainable": index + 1 > config.frozen_stages,
                "lr_mult": config.lr_mults[index],
                "layers": CHAINED[config.depth],
                "depthwise": config.depthwise,
                "deform_version": config.deform_version if index + 1 in config.deform_stages else 0,
            }
            width, outputs = config.stage_channels[index], config.stage_outputs[index]
            stage = nn.LayerList()
            for position in range(blocks):
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


def _stem(config: BackboneConfig, **options: Any) -> nn.LayerList:
    """Return the three layers before the first stage; the first one is never depthwise-separable."""
    width = config.stem_channels
    first = ConvNorm(3, width, 3, stride=2, **options)
    shapes = ((width, 1), (_stem_outputs(config), 2))
    if config.depthwise:
        return nn.LayerList(
            [first, *(DepthwiseConvNorm(width, outputs, stride=stride, **options) for outputs, stride in shapes)]
        )
    return nn.LayerList([first, *(ConvNorm(width, outputs, 3, stride=stride, **options) for outputs, stride in shapes)])


def _stem_outputs(config: BackboneConfig) -> int:
    return config.stem_channels * (1 if config.depthwise else 2)
