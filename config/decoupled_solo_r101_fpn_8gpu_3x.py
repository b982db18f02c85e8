from dataclasses import replace

from config.base import SOLO_ZOO, Published
from config.decoupled_solo_r50_fpn_8gpu_3x import DecoupledSOLOR50


class DecoupledSOLOR101(DecoupledSOLOR50):
    """Decoupled SOLO, ResNet-101, 36 epochs."""

    number = 17
    published = (Published(37.9, SOLO_ZOO, "convert/solo2paddle.py"),)
    backbone = replace(DecoupledSOLOR50.backbone, depth=101)
