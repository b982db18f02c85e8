from dataclasses import replace

from config.base import Cost
from config.decoupled_solo_r50_fpn_8gpu_3x import DecoupledSOLOR50
from config.published import SOLO_ZOO, Published


class DecoupledSOLOLightR50(DecoupledSOLOR50):
    """Decoupled SOLO light, ResNet-50, short side 512."""

    number = 18
    published = (Published(33.0, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(32.4, 199.9)
    data = replace(DecoupledSOLOR50.data, short_side=512, long_side=852)
    head = replace(DecoupledSOLOR50.head, stacked_convs=4, shared_tower=True)
    augment = replace(DecoupledSOLOR50.augment, short_sides=(352, 384, 416, 448, 480, 512))
    target = replace(
        DecoupledSOLOR50.target, scale_ranges=(1.0, 64.0, 32.0, 128.0, 64.0, 256.0, 128.0, 512.0, 256.0, 2048.0)
    )
