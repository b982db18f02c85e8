from dataclasses import replace

from config.base import Cost
from config.published import PPDET_0_5_ZOO, PPDET_ZOO, SOLO_ZOO, Published
from config.solov2_r50_fpn_8gpu_3x import SOLOv2R50


class SOLOv2R50Short(SOLOv2R50):
    """SOLOv2, ResNet-50, 12 epochs."""

    number = 6
    published = (
        Published(34.8, SOLO_ZOO, "convert/solo2paddle.py"),
        Published(35.5, PPDET_ZOO.format("solov2_r50_fpn_1x_coco"), "convert/ppdet2paddle.py", speed="46 ms, V100"),
        Published(35.6, PPDET_0_5_ZOO.format("solov2_r50_fpn_1x"), "convert/ppdet2paddle.py", speed="46 ms, V100"),
    )
    cost = Cost(46.6, 435.6)
    augment = replace(SOLOv2R50.augment, short_sides=())
    train_cfg = replace(SOLOv2R50.train_cfg, epochs=12, milestones=(9, 11))
