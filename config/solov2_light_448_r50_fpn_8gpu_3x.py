from dataclasses import replace

from config.base import Config, Cost
from config.published import SOLO_ZOO, Published


class SOLOv2Light448R50(Config):
    """SOLOv2 light, ResNet-50, short side 448."""

    number = 1
    published = (Published(33.7, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(31.3, 114.0)
    data = replace(Config.data, short_side=448, long_side=768)
    augment = replace(Config.augment, short_sides=(352, 384, 416, 448, 480, 512))
    target = replace(Config.target, scale_ranges=(1.0, 56.0, 28.0, 112.0, 56.0, 224.0, 112.0, 448.0, 224.0, 896.0))
    mask_feat_head = replace(Config.mask_feat_head, out_channels=128)
    head = replace(Config.head, channels=256, stacked_convs=2)
