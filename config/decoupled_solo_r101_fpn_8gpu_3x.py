from dataclasses import replace

from config.base import Cost
from config.decoupled_solo_r50_fpn_8gpu_3x import DecoupledSOLOR50
from config.published import SOLO_ZOO, Published


class DecoupledSOLOR101(DecoupledSOLOR50):
    """Decoupled SOLO, ResNet-101, 36 epochs."""

    number = 17
    published = (Published(37.9, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(59.0, 978.3)
    backbone = replace(DecoupledSOLOR50.backbone, depth=101)
