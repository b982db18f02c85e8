from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solo_r50_fpn_8gpu_3x import SOLOR50


class DecoupledSOLOR50(SOLOR50):
    """Decoupled SOLO, ResNet-50, 36 epochs."""

    number = 16
    published = (Published(36.4, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(40.0, 849.5)
    head = replace(SOLOR50.head, kind="decoupled_solo")
