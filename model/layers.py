"""Layers that several networks share."""

from __future__ import annotations

import math
from typing import Callable

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F
from paddle.vision.ops import deform_conv2d

from model.convolution import conv2d
from model.resize import shape_of

STATISTICS = ("._mean", "._variance")  # suffixes of Paddle's names of the statistics of a batch norm


def norm_layer(kind: str, channels: int, *, groups: int = 32, trainable: bool = True, lr_mult: float = 1.0) -> nn.Layer:
    """Return a normalisation layer for [N, channels, H, W].

    kind: "frozen" (batch norm that always uses its running statistics), "batch", "sync" (statistics over all GPUs;
    plain batch norm on a CPU, which has no synchronised kernel) or "group" (`groups` groups, Wu & He 2018).
    trainable: whether scale and shift are trained.
    """
    attributes = {
        name: paddle.ParamAttr(learning_rate=lr_mult, trainable=trainable) for name in ("weight_attr", "bias_attr")
    }
    if kind == "group":
        return GroupNorm(num_groups=groups, num_channels=channels, **attributes)
    if kind == "sync" and paddle.get_device().startswith("gpu"):
        return nn.SyncBatchNorm(channels, **attributes)
    return nn.BatchNorm2D(channels, use_global_stats=True if kind == "frozen" else None, **attributes)


def running_statistics(network: nn.Layer) -> list[Tensor]:
    """Return the running means and variances that training changes: those of batch norms that are not frozen."""
    kinds = nn.BatchNorm2D, nn.SyncBatchNorm
    norms = [layer for layer in network.sublayers() if isinstance(layer, kinds) and not layer._use_global_stats]
    return [values for layer in norms for values in (layer._mean, layer._variance)]


class GroupNorm(nn.GroupNorm):
    """Paddle's group norm; with `portable` computed by an instance norm, which paddle2onnx translates correctly."""

    portable = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.portable:
            return nn.GroupNorm.forward(self, x)
        normalised = F.instance_norm(x.reshape([0, self._num_groups, -1]), eps=self._epsilon).reshape(shape_of(x))
        return normalised * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])


class Conv2D(nn.Conv2D):
    """Paddle's convolution; in training `model.convolution` computes it, and it adds its bias by `add_bias`."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.Conv2D.forward(self, x)
        geometry = {"padding": self._padding, "dilation": self._dilation, "groups": self._groups}
        y = conv2d(x, self.weight, stride=self._stride, **geometry)
        return y if self.bias is None else add_bias(y, self.bias)


class Conv2DTranspose(nn.Conv2DTranspose):
    """Paddle's transposed convolution without padding; in training it adds its bias by `add_bias`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None or not self.training:
            return nn.Conv2DTranspose.forward(self, x)
        return add_bias(F.conv2d_transpose(x, self.weight, stride=self._stride), self.bias)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Add a bias, [C], to the channels of [N, C, H, W].

    The maps are flattened: Paddle's CPU kernel adds to them, and sums the gradient over them, 2.5 times as fast as over
    [H, W]. Compiled graphs keep the bias in the convolution, where it costs nothing.
    """
    return (x.flatten(start_axis=2) + bias.astype(x.dtype).unsqueeze(1)).reshape(x.shape)


class DeformConv2D(nn.Layer):
    """Deformable convolution, v1 (Dai et al. 2017) or v2 with modulation (Zhu et al. 2018), one deformable group.

    The offset branch gives, for each of the k taps, (dy, dx) interleaved; in v2 the k modulation logits follow. Input
    positions outside of the picture count as 0. `weight` has the layout of an ordinary convolution.
    """

    portable = False  # v1 gets a modulation of 1: paddle2onnx translates only modulated ones

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        version: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        weight_attr: paddle.ParamAttr | None = None,
    ) -> None:
        super().__init__()
        self.geometry = {"stride": stride, "padding": kernel_size // 2, "groups": groups}
        self.taps = kernel_size * kernel_size
        self.version = version
        fan_in = in_channels * self.taps // groups
        self.weight = self.create_parameter(
            [out_channels, in_channels // groups, kernel_size, kernel_size],
            attr=weight_attr,
            default_initializer=nn.initializer.Normal(std=math.sqrt(2.0 / fan_in)),
        )
        trainable = weight_attr is None or weight_attr.trainable
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0), trainable=trainable)
        self.bias = self.create_parameter([out_channels], attr=zero, is_bias=True) if bias else None
        self.offset = Conv2D(
            in_channels,
            self.taps * (2 if version == 1 else 3),
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            weight_attr=zero,  # starts as a plain convolution
            bias_attr=zero,
        )

    def forward(self, x: Tensor) -> Tensor:
        offset = self.offset(x)  # [N, 2k or 3k, H', W']
        mask = None
        if self.version == 2:
            offset, mask = offset.split([2 * self.taps, self.taps], axis=1)
            mask = F.sigmoid(mask)
        elif self.portable:
            mask = paddle.ones_like(offset[:, : self.taps])
        return deform_conv2d(x, offset, self.weight, bias=self.bias, mask=mask, **self.geometry)


def conv_weight(fan_in: int, *, trainable: bool, lr_mult: float) -> paddle.ParamAttr:
    """Return the attributes of a convolution's weight, drawn as He et al. 2015 do.

    fan_in: number of inputs of each output.
    """
    initializer = nn.initializer.Normal(std=math.sqrt(2.0 / fan_in))
    return paddle.ParamAttr(initializer=initializer, learning_rate=lr_mult, trainable=trainable)


class ConvNorm(nn.Layer):
    """Convolution (plain or deformable), normalisation, and an activation.

    activation: None if it follows later, or if there is none. bias: of a plain convolution; deform_bias: of a
    deformable one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm: str,
        norm_groups: int = 32,
        train_norm: bool = True,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[Tensor], Tensor] | None = F.relu,
        deform_version: int = 0,
        deform_bias: bool = False,
        bias: bool = False,
        trainable: bool = True,
        lr_mult: float = 1.0,
    ) -> None:
        super().__init__()
        fan_in = in_channels * kernel_size * kernel_size // groups
        weight_attr = conv_weight(fan_in, trainable=trainable, lr_mult=lr_mult)
        shared = {"stride": stride, "groups": groups, "weight_attr": weight_attr}
        if deform_version:
            self.conv = DeformConv2D(
                in_channels, out_channels, kernel_size, version=deform_version, bias=deform_bias, **shared
            )
        else:
            padding = kernel_size // 2
            shared["bias_attr"] = paddle.ParamAttr(learning_rate=lr_mult, trainable=trainable) if bias else False
            self.conv = Conv2D(in_channels, out_channels, kernel_size, padding=padding, **shared)
        self.norm = norm_layer(
            norm, out_channels, groups=norm_groups, trainable=trainable and train_norm, lr_mult=lr_mult
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return self.activation(x) if self.activation else x


def stage_outputs(x: Tensor, stages: nn.LayerList) -> list[Tensor]:
    """Run the blocks of each stage of a backbone one after another; return the output of each stage."""
    features = []
    for stage in stages:
        for block in stage:
            x = block(x)
        features.append(x)
    return features


class DropBlock(nn.Layer):
    """Drop square blocks of a feature map in training (Ghiasi et al. 2018) and rescale the rest."""

    def __init__(self, *, block_size: int, keep_prob: float) -> None:
        super().__init__()
        self.block_size = block_size
        self.keep_prob = keep_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        gamma = (1.0 - self.keep_prob) / self.block_size**2
        for side in x.shape[2:]:
            gamma *= side / max(side - self.block_size + 1, 1)
        centres = (paddle.rand(x.shape) < gamma).astype(x.dtype)
        kept = 1.0 - F.max_pool2d(centres, self.block_size, stride=1, padding=self.block_size // 2)
        return x * kept * (kept.numel().astype(x.dtype) / kept.sum())


def append_coordinates(x: Tensor) -> Tensor:
    """Append `coordinates_of` to the channels: [N, C, H, W] to [N, C + 2, H, W] (CoordConv, Liu et al. 2018)."""
    return paddle.concat([x, coordinates_of(x)], axis=1)


def coordinates_of(x: Tensor) -> Tensor:
    """Return x and y of each position of [N, C, H, W], from -1 to 1: [N, 2, H, W]."""
    batch, _, height, width = shape_of(x)
    xs = _evenly_spaced(width, x.dtype).reshape([1, 1, 1, width]).expand([batch, 1, height, width])
    ys = _evenly_spaced(height, x.dtype).reshape([1, 1, height, 1]).expand([batch, 1, height, width])
    return paddle.concat([xs, ys], axis=1)


def _evenly_spaced(count: int | Tensor, dtype: paddle.dtype) -> Tensor:
    """Return `count` evenly spaced numbers from -1 to 1; a single one is -1."""
    if isinstance(count, int):
        return paddle.linspace(-1, 1, count, dtype=dtype)
    # In a portable graph `linspace` of one number divides by 0.
    steps = (count - 1).clip(min=1).astype(dtype).reshape([1])  # oneDNN in Paddle 2.6 needs the dimension
    return paddle.arange(count).astype(dtype) * (2 / steps) - 1
