from dataclasses import replace

from config.base import Config, Cost
from config.centermask2_lite_v39 import CenterMask2LiteV39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2LiteMobileNetV2(CenterMask2LiteV39):
    """CenterMask2 lite, MobileNetV2, 48 epochs."""

    number = 37
    published = (Published(27.2, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=29.8, speed="21 ms"),)
    cost = Cost(11.5, 34.8)
    backbone = replace(Config.backbone, kind="mobilenetv2", depth=53, train_norm=False, frozen_stages=0)
