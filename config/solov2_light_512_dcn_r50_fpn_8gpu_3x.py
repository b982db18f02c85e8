from dataclasses import replace

from config.base import Config, Cost
from config.published import SOLO_ZOO, Published


class SOLOv2Light512DCNR50(Config):
    """SOLOv2 light with deformable convolutions (v1), ResNet-50, short side 512."""

    number = 5
    published = (Published(36.4, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(33.2, 155.3)
    data = replace(Config.data, short_side=512, long_side=852)
    backbone = replace(Config.backbone, deform_version=1, deform_stages=(2, 3, 4))
    mask_feat_head = replace(Config.mask_feat_head, out_channels=128)
    head = replace(Config.head, channels=256, stacked_convs=3, deform_version=1)
    augment = replace(Config.augment, short_sides=(352, 384, 416, 448, 480, 512))
    target = replace(Config.target, scale_ranges=(1.0, 64.0, 32.0, 128.0, 64.0, 256.0, 128.0, 512.0, 256.0, 2048.0))
