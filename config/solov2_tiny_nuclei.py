from dataclasses import replace

from config.base import Cost
from config.solov2_tiny_shapes import SOLOv2TinyShapes


class SOLOv2TinyNuclei(SOLOv2TinyShapes):
    """A small SOLOv2 for hundreds of nuclei in pictures of microscopes (BBBC039, 520 x 696 pixels of 16 bits)."""

    number = 21
    cost = Cost(1.5, 10.2)
    # Noise of the camera covers 32 to 44 counts in pictures without nuclei, and nuclei 600 or more.
    data = replace(SOLOv2TinyShapes.data, stretch=(1.0, 99.8, 0.7, 150.0), short_side=624, long_side=1024)
    # Nuclei are about 28 pixels wide, and a hundred others look the same: masks are fine, and stay near their cells.
    mask_feat_head = replace(SOLOv2TinyShapes.mask_feat_head, out_channels=32, stride=2)
    head = replace(SOLOv2TinyShapes.head, num_grids=(64, 36), strides=(2, 2), reach=24)
    target = replace(
        SOLOv2TinyShapes.target, scale_ranges=(0.0, 52.0, 40.0, 2048.0), centre_fraction=0.1, soft_masks=True
    )
    nms = replace(SOLOv2TinyShapes.nms, nms_pre=1000, max_per_img=500)
    augment = replace(
        SOLOv2TinyShapes.augment,
        short_sides=(480, 528, 576, 624, 672),
        cutmix=0.3,
        side_by_epoch=False,
        distort=0.5,
        distort_brightness=16.0,
        distort_contrast=0.3,
        distort_saturation=0.0,
        distort_hue=0.0,
    )
    train_cfg = replace(
        SOLOv2TinyShapes.train_cfg,
        batch_size=1,
        epochs=130,
        lr=0.0015,
        lr_batch=2,
        ema_decay=0.999,
        keep_empty=True,
        save_every=250,
        eval_every=10,
    )
    eval_cfg = replace(SOLOv2TinyShapes.eval_cfg, max_dets=500, select_by="match")
    shapes = replace(SOLOv2TinyShapes.shapes, train_pictures=0)
    train_path = "datasets/nuclei/train.json"
    train_pre_path = "datasets/nuclei/images"
    val_path = "datasets/nuclei/train_val.json"
    val_pre_path = "datasets/nuclei/images"
    classes_path = "data/nuclei_classes.txt"
    num_classes = 1
    demo_input = "images/nuclei"
