from dataclasses import replace

from config.base import PPDET_0_5_AUGMENT, PPDET_TRAINING, Config, Cost
from config.published import PPDET_0_5_ZOO, Published
from config.solov2_light_448_r50_fpn_8gpu_3x import SOLOv2Light448R50


class SOLOv2MobileNetV3(SOLOv2Light448R50):
    """SOLOv2, MobileNetV3-Large, short side 448, PaddleDetection 0.5."""

    number = 22
    published = (
        Published(
            30.0,
            PPDET_0_5_ZOO.format("solov2_mobilenetv3_fpn_448_3x"),
            "convert/ppdet2paddle.py",
            speed="20 ms, V100",
        ),
    )
    cost = Cost(10.3, 69.4)
    data = replace(SOLOv2Light448R50.data, resize_by="factor", crop_masks="truncated")
    backbone = replace(
        Config.backbone,
        kind="mobilenetv3",
        depth=49,
        train_norm=False,
        frozen_stages=0,
        lr_mults=(0.25, 0.25, 0.5, 0.75),
    )
    head = replace(SOLOv2Light448R50.head, drop_block=True)
    augment = replace(PPDET_0_5_AUGMENT, short_sides=SOLOv2Light448R50.augment.short_sides)
    target = replace(SOLOv2Light448R50.target, skip_empty_masks=True)
    train_cfg = replace(PPDET_TRAINING, batch_size=4, backbone_decay=0.1, fast_biases=("neck",), ema_decay=0.9998)
