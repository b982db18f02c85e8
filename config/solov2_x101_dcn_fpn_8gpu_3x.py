from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solov2_r101_dcn_fpn_8gpu_3x import SOLOv2R101DCN


class SOLOv2X101DCN(SOLOv2R101DCN):
    """SOLOv2 with deformable convolutions (v2) in backbone, towers and mask branch, ResNeXt-101 64x4d."""

    number = 9
    published = (Published(42.4, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(113.4, 902.7)
    backbone = replace(SOLOv2R101DCN.backbone, groups=64, base_width=4)
