from dataclasses import replace

from config.base import PPDET_DEFORMABLE_TRAINING, Config, Cost
from config.published import PPDET_ZOO, Published
from config.solov2_light_r50_vd_fpn_dcn_512_3x import SOLOv2LightR50vdDCN512


class SOLOv2R50Enhance(SOLOv2LightR50vdDCN512):
    """SOLOv2 light with a deformable mask branch, ResNet-50-vd, short side 512, PaddleDetection 2.x."""

    number = 11
    published = (
        Published(39.0, PPDET_ZOO.format("solov2_r50_enhance_coco"), "convert/ppdet2paddle.py", speed="26 ms, V100"),
    )
    cost = Cost(33.9, 164.5)
    data = replace(SOLOv2LightR50vdDCN512.data, normalize_first=True, resize_by="size", crop_masks="rounded")
    backbone = replace(SOLOv2LightR50vdDCN512.backbone, frozen_stages=1)
    mask_feat_head = replace(SOLOv2LightR50vdDCN512.mask_feat_head, deform_version=2, deform_bias=True)
    head = replace(SOLOv2LightR50vdDCN512.head, deform_bias=True)
    target = replace(SOLOv2LightR50vdDCN512.target, scale_ranges=Config.target.scale_ranges, box_border=0)
    train_cfg = PPDET_DEFORMABLE_TRAINING
