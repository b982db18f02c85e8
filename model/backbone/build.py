"""Which backbone a config means: the one table that new backbones are added to."""

from __future__ import annotations

from typing import Union

from config.networks import BackboneConfig
from model.backbone.resnet import ResNet
from model.backbone.vovnet import VoVNet

Backbone = Union[ResNet, VoVNet]
BACKBONES: dict[str, type[Backbone]] = {"resnet": ResNet, "vovnet": VoVNet}  # by `backbone.kind`


def build_backbone(config: BackboneConfig) -> Backbone:
    """[N, 3, H, W] to four maps at strides 4, 8, 16 and 32, whose channels are in `out_channels`."""
    return BACKBONES[config.kind](config)
