from dataclasses import replace

from config.base import Cost
from config.centermask2_lite_v19 import CenterMask2LiteV19
from config.networks import SLIM_WIDTHS
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2LiteV19Slim(CenterMask2LiteV19):
    """CenterMask2 lite, slim VoVNetV2-19 with eSE, 48 epochs."""

    number = 35
    published = (Published(29.8, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=32.5, speed="21 ms"),)
    cost = Cost(12.5, 62.5)
    backbone = replace(CenterMask2LiteV19.backbone, stage_channels=SLIM_WIDTHS, stage_outputs=(112, 256, 384, 512))
