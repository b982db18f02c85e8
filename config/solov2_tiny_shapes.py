from dataclasses import replace

from config.base import Config, Cost


class SOLOv2TinyShapes(Config):
    """A small SOLOv2, 1.6 million parameters, for the generated pictures of shapes."""

    number = 20
    cost = Cost(1.6, 1.8)
    data = replace(Config.data, short_side=352, long_side=352)
    backbone = replace(
        Config.backbone,
        depth=18,
        stem_channels=24,
        stage_channels=(24, 48, 96, 160),
        norm="batch",
        frozen_stages=0,
    )
    neck = replace(Config.neck, out_channels=40)
    mask_feat_head = replace(Config.mask_feat_head, mid_channels=32, out_channels=64, norm_groups=8)
    head = replace(Config.head, channels=64, stacked_convs=2, norm_groups=8, num_grids=(20, 12, 8), strides=(8, 8, 16))
    target = replace(Config.target, scale_ranges=(0.0, 66.0, 50.0, 124.0, 100.0, 2048.0), soft_masks=True)
    augment = replace(
        Config.augment,
        short_sides=(192, 192, 256, 256, 256, 320, 352, 352),
        side_by_epoch=True,
        flip_vertical=0.5,
        turn=0.5,
    )
    train_cfg = replace(
        Config.train_cfg,
        model_path="",
        batch_size=4,
        epochs=8,
        optimizer="adamw",
        weight_decay=0.05,
        no_decay=("norm", "bias"),
        lr=0.002,
        lr_batch=8,
        schedule="cosine",
        warmup_iters=300,
        warmup_factor=0.0,
        clip_norm=5.0,
        ema_decay=0.998,
        workers=1,
        processes=2,
    )
    shapes = replace(Config.shapes, train_pictures=11000)
    train_path = "datasets/shapes/train/annotations.json"
    train_pre_path = "datasets/shapes/train/images"
    val_path = "datasets/shapes/val/annotations.json"
    val_pre_path = "datasets/shapes/val/images"
    classes_path = "data/shapes_classes.txt"
    num_classes = 8
