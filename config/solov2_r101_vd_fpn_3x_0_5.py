from dataclasses import replace

from config.base import PPDET_DEFORMABLE_TRAINING, Cost
from config.published import PPDET_0_5_ZOO, Published
from config.solov2_r101_dcn_fpn_8gpu_3x import SOLOv2R101DCN


class SOLOv2R101vdWithoutBias(SOLOv2R101DCN):
    """SOLOv2 with deformable convolutions (v2) in all parts, without biases, ResNet-101-vd, PaddleDetection 0.5."""

    number = 23
    published = (
        Published(42.6, PPDET_0_5_ZOO.format("solov2_r101_vd_fpn_3x"), "convert/ppdet2paddle.py", speed="83 ms, V100"),
    )
    cost = Cost(68.7, 604.1)
    data = replace(SOLOv2R101DCN.data, resize_by="factor", crop_masks="truncated")
    backbone = replace(SOLOv2R101DCN.backbone, variant="d", train_norm=False)
    target = replace(SOLOv2R101DCN.target, skip_empty_masks=True)
    train_cfg = replace(PPDET_DEFORMABLE_TRAINING, fast_biases=("head", "neck"))
