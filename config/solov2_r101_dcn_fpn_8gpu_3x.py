from dataclasses import replace

from config.base import Cost
from config.published import SOLO_ZOO, Published
from config.solov2_r101_fpn_8gpu_3x import SOLOv2R101


class SOLOv2R101DCN(SOLOv2R101):
    """SOLOv2 with deformable convolutions (v2) in backbone, towers and mask branch, ResNet-101."""

    number = 8
    published = (Published(41.4, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(68.7, 595.8)
    backbone = replace(SOLOv2R101.backbone, deform_version=2, deform_stages=(2, 3, 4))
    mask_feat_head = replace(SOLOv2R101.mask_feat_head, deform_version=2)
    head = replace(SOLOv2R101.head, deform_version=2, deform_all=True)
