from dataclasses import replace

from config.base import PPDET_DEFORMABLE_TRAINING, Cost
from config.published import PPDET_ZOO, Published
from config.solov2_r101_dcn_fpn_8gpu_3x import SOLOv2R101DCN


class SOLOv2R101vd(SOLOv2R101DCN):
    """SOLOv2 with deformable convolutions (v2) in all parts, ResNet-101-vd, PaddleDetection 2.x."""

    number = 10
    published = (
        Published(42.7, PPDET_ZOO.format("solov2_r101_vd_fpn_3x_coco"), "convert/ppdet2paddle.py", speed="83 ms, V100"),
    )
    cost = Cost(68.8, 604.1)
    data = replace(SOLOv2R101DCN.data, normalize_first=True)
    backbone = replace(SOLOv2R101DCN.backbone, variant="d", train_norm=False)
    mask_feat_head = replace(SOLOv2R101DCN.mask_feat_head, deform_bias=True)
    head = replace(SOLOv2R101DCN.head, deform_bias=True)
    target = replace(SOLOv2R101DCN.target, box_border=0, skip_empty_masks=True)
    train_cfg = replace(PPDET_DEFORMABLE_TRAINING, warmup_iters=2000)
