from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solo_r50_fpn_8gpu_3x import SOLOR50


class SOLOR101(SOLOR50):
    """SOLO, ResNet-101, 36 epochs."""

    number = 14
    published = (Published(37.1, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(55.3, 669.6)
    backbone = replace(SOLOR50.backbone, depth=101)
