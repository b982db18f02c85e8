from dataclasses import replace

from config.base import Cost
from config.centermask2_lite_v39 import CenterMask2LiteV39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2LiteV19(CenterMask2LiteV39):
    """CenterMask2 lite, VoVNetV2-19 with eSE, 48 epochs."""

    number = 34
    published = (
        Published(32.8, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=35.9, speed="23 ms, Titan Xp"),
    )
    cost = Cost(20.1, 110.6)
    backbone = replace(CenterMask2LiteV39.backbone, depth=19)
