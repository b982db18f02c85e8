"""The masks of CenterMask2: SAG-Mask (Lee and Park 2020) and the estimate of a mask's IoU (Huang et al. 2019)."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from config.networks import RoIConfig
from model.layers import Conv2D, Conv2DTranspose


class RoIHead(nn.Layer):
    """[n, C, size, size] of n boxes and their classes, int64 [n], to mask logits and estimated IoUs.

    Returns [n, 2 size, 2 size], the logits of the mask of each box's class, and [n], the IoU of that mask, which is
    meant for logits above 0. n is 1 or more.
    """

    def __init__(self, in_channels: int, num_classes: int, config: RoIConfig) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mask_head = MaskHead(in_channels, num_classes, config)
        self.iou_head = MaskIoUHead(in_channels + 1, num_classes, config)

    def forward(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        own = F.one_hot(classes, self.num_classes)  # [n, classes]
        masks = (self.mask_head(features) * own.unsqueeze([2, 3])).sum(axis=1)  # [n, 2 size, 2 size]
        overlaps = self.iou_head(features, F.sigmoid(masks).unsqueeze(1))  # [n, classes]
        return masks, (overlaps * own).sum(axis=1)


class MaskHead(nn.Layer):
    """[n, C, size, size] to mask logits of all classes, [n, classes, 2 size, 2 size]."""

    def __init__(self, in_channels: int, num_classes: int, config: RoIConfig) -> None:
        super().__init__()
        width = config.mask_channels
        self.convs = _convs(in_channels, width, config.mask_convs)
        self.attention = Conv2D(2, 1, 3, padding=1, weight_attr=_he(3 * 3 * 2), bias_attr=False)
        self.deconv = Conv2DTranspose(width, width, 2, stride=2, weight_attr=_he(width))
        self.pred = Conv2D(width, num_classes, 1, weight_attr=_normal(0.001))

    def forward(self, x: Tensor) -> Tensor:
        x = self.attended(_through(self.convs, x))
        return self.pred(F.relu(self.deconv(x)))

    def attended(self, x: Tensor) -> Tensor:
        """Scale each position by a weight computed from the mean and the maximum over the channels."""
        summary = paddle.concat([x.mean(axis=1, keepdim=True), _largest_channel(x)], axis=1)
        return x * F.sigmoid(self.attention(summary))


class MaskIoUHead(nn.Layer):
    """Features and mask probabilities of boxes to the IoUs that masks of all classes would have, [n, classes]."""

    def __init__(self, in_channels: int, num_classes: int, config: RoIConfig) -> None:
        super().__init__()
        self.convs = _convs(in_channels, config.iou_channels, config.iou_convs, last_stride=2)
        side = config.size // 2
        widths = (config.iou_channels * side * side, config.iou_features, config.iou_features)
        self.fcs = nn.LayerList([nn.Linear(*pair, weight_attr=_he(pair[0])) for pair in zip(widths, widths[1:])])
        self.pred = nn.Linear(config.iou_features, num_classes, weight_attr=_normal(0.01))

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Estimate IoUs. features: [n, C, size, size]; masks: probabilities [n, 1, 2 size, 2 size]."""
        halved = F.max_pool2d(masks, kernel_size=2, stride=2)
        x = _through(self.convs, paddle.concat([features, halved], axis=1)).flatten(start_axis=1)
        for layer in self.fcs:
            x = F.relu(layer(x))
        return self.pred(x)


def _convs(in_channels: int, width: int, count: int, *, last_stride: int = 1) -> nn.LayerList:
    layers = nn.LayerList()
    for position in range(count):
        stride = last_stride if position == count - 1 else 1
        inputs = width if position else in_channels
        layers.append(Conv2D(inputs, width, 3, stride=stride, padding=1, weight_attr=_he(9 * width)))
    return layers


def _through(layers: nn.LayerList, x: Tensor) -> Tensor:
    for layer in layers:
        x = F.relu(layer(x))
    return x


def _largest_channel(x: Tensor) -> Tensor:
    """Return the maximum over the channels, [n, C, h, w] to [n, 1, h, w].

    By pooling, whose gradient takes a hundredth of the time of the gradient of `max`.
    """
    channels, height, width = x.shape[1:]
    flat = x.reshape([-1, 1, channels, height * width])
    return F.max_pool2d(flat, kernel_size=(channels, 1)).reshape([-1, 1, height, width])


def _he(fan: int) -> paddle.ParamAttr:
    return _normal(math.sqrt(2.0 / fan))


def _normal(std: float) -> paddle.ParamAttr:
    return paddle.ParamAttr(initializer=nn.initializer.Normal(std=std))
