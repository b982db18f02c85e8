from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solov2_light_448_r50_fpn_8gpu_3x import SOLOv2Light448R50


class SOLOv2Light448R34(SOLOv2Light448R50):
    """SOLOv2 light, ResNet-34, short side 448."""

    number = 4
    published = (
        Published(32.0, SOLO_ZOO, "convert/solo2paddle.py"),
        Published(32.0, "github.com/OpenFirework/pytorch_solov2", "convert/openfirework2paddle.py"),
    )
    cost = Cost(28.4, 106.2)
    backbone = replace(SOLOv2Light448R50.backbone, depth=34)
