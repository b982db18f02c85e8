from dataclasses import replace

from config.base import Config, Cost
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V39(Config):
    """CenterMask2, VoVNetV2-39 with eSE, 36 epochs."""

    number = 30
    published = (Published(39.7, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=44.2, speed="50 ms, V100"),)
    cost = Cost(52.6, 542.3)
    backbone = replace(
        Config.backbone,
        kind="vovnet",
        depth=39,
        stage_channels=(128, 160, 192, 224),
        train_norm=False,
        frozen_stages=0,
    )
    head = replace(Config.head, kind="centermask2", channels=256)
    nms = replace(Config.nms, score_thr=0.05, nms_pre=1000, max_per_img=50)
    data = replace(Config.data, std=(1.0, 1.0, 1.0), bgr=True, resize_by="pillow")
    target = replace(
        Config.target, scale_ranges=(-1.0, 64.0, 64.0, 128.0, 128.0, 256.0, 256.0, 512.0, 512.0, 1e8), box_border=0
    )
    augment = replace(Config.augment, short_sides=(640, 672, 704, 736, 768, 800))
    train_cfg = replace(
        Config.train_cfg,
        milestones=(28, 33),
        warmup_iters=1000,
        warmup_factor=1 / 1000,
        clip_norm=0.0,
        no_decay=("norm",),
    )
