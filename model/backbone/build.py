"""The table of backbones."""

from __future__ import annotations

from typing import Union

from config.networks import BackboneConfig
from model.backbone.mobilenetv2 import MobileNetV2
from model.backbone.mobilenetv3 import MobileNetV3
from model.backbone.resnet import ResNet
from model.backbone.vovnet import VoVNet

Backbone = Union[ResNet, VoVNet, MobileNetV2, MobileNetV3]
BACKBONES: dict[str, type[Backbone]] = {  # by `backbone.kind`
    "resnet": ResNet,
    "vovnet": VoVNet,
    "mobilenetv2": MobileNetV2,
    "mobilenetv3": MobileNetV3,
}


def build_backbone(config: BackboneConfig) -> Backbone:
    """Return the backbone of a config: [N, 3, H, W] to four maps at strides 4, 8, 16, 32 with `out_channels`
    channels."""
    return BACKBONES[config.kind](config)
