from dataclasses import replace

from config.base import Config, Cost
from config.published import SOLO_ZOO, Published


class SOLOR50(Config):
    """SOLO, ResNet-50, 36 epochs."""

    number = 13
    published = (Published(35.8, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(36.3, 540.8)
    head = replace(Config.head, kind="solo", channels=256, stacked_convs=7)
    target = replace(Config.target, min_area=10)
    augment = replace(Config.augment, short_sides=(640, 672, 704, 736, 768, 800))
    train_cfg = replace(Config.train_cfg, warmup_factor=1 / 3)
