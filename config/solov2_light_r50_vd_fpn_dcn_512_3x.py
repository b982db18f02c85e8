from dataclasses import replace

from config.base import PPDET_0_5_AUGMENT, PPDET_DEFORMABLE_TRAINING, Cost
from config.published import PPDET_0_5_ZOO, Published
from config.solov2_light_512_dcn_r50_fpn_8gpu_3x import SOLOv2Light512DCNR50


class SOLOv2LightR50vdDCN512(SOLOv2Light512DCNR50):
    """SOLOv2 light with deformable convolutions (v2), ResNet-50-vd, short side 512, PaddleDetection 0.5."""

    number = 2
    published = (
        Published(
            38.8,
            PPDET_0_5_ZOO.format("solov2_light_r50_vd_fpn_dcn_512_3x"),
            "convert/ppdet2paddle.py",
            speed="26 ms, V100",
        ),
    )
    cost = Cost(33.5, 160.0)
    data = replace(SOLOv2Light512DCNR50.data, resize_by="factor", crop_masks="truncated")
    backbone = replace(
        SOLOv2Light512DCNR50.backbone,
        variant="d",
        norm="sync",
        frozen_stages=0,  # `freeze_at: 0` of PaddleDetection 0.5; in 2.x that freezes the stem and the first stage
        deform_version=2,
        lr_mults=(0.05, 0.05, 0.1, 0.15),
    )
    head = replace(SOLOv2Light512DCNR50.head, deform_version=2, drop_block=True)
    augment = replace(PPDET_0_5_AUGMENT, short_sides=SOLOv2Light512DCNR50.augment.short_sides)
    target = replace(SOLOv2Light512DCNR50.target, skip_empty_masks=True)
    train_cfg = replace(PPDET_DEFORMABLE_TRAINING, fast_biases=("head", "neck"))
