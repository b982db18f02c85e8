from dataclasses import replace

from config.base import Config, Cost
from config.published import PPDET_0_5_ZOO, PPDET_ZOO, SOLO_ZOO, Published


class SOLOv2R50(Config):
    """SOLOv2, ResNet-50, 36 epochs."""

    number = 0
    published = (
        Published(37.5, SOLO_ZOO, "convert/solo2paddle.py"),
        Published(38.0, PPDET_ZOO.format("solov2_r50_fpn_3x_coco"), "convert/ppdet2paddle.py", speed="46 ms, V100"),
        Published(37.9, PPDET_0_5_ZOO.format("solov2_r50_fpn_3x"), "convert/ppdet2paddle.py", speed="46 ms, V100"),
    )
    cost = Cost(46.6, 435.6)
    augment = replace(Config.augment, short_sides=(640, 672, 704, 736, 768, 800))
