from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solov2_light_448_r50_fpn_8gpu_3x import SOLOv2Light448R50


class SOLOv2Light448R18(SOLOv2Light448R50):
    """SOLOv2 light, ResNet-18, short side 448."""

    number = 3
    published = (
        Published(29.6, SOLO_ZOO, "convert/solo2paddle.py"),
        Published(29.6, "github.com/OpenFirework/pytorch_solov2", "convert/openfirework2paddle.py"),
    )
    cost = Cost(18.3, 86.1)
    backbone = replace(SOLOv2Light448R50.backbone, depth=18)
