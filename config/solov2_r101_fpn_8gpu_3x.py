from dataclasses import replace

from config.base import Config, Cost
from config.published import SOLO_ZOO, Published


class SOLOv2R101(Config):
    """SOLOv2, ResNet-101."""

    number = 7
    published = (Published(39.1, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(65.6, 564.4)
    backbone = replace(Config.backbone, depth=101)
    augment = replace(Config.augment, short_sides=(640, 672, 704, 736, 768, 800))
