from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solo_r50_fpn_8gpu_3x import SOLOR50


class SOLOR50Short(SOLOR50):
    """SOLO, ResNet-50, 12 epochs."""

    number = 12
    published = (Published(32.9, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(36.3, 540.8)
    augment = replace(SOLOR50.augment, short_sides=())
    train_cfg = replace(SOLOR50.train_cfg, epochs=12, milestones=(9, 11))
