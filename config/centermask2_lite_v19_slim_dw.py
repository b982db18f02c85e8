from dataclasses import replace

from config.base import Cost
from config.centermask2_lite_v19_slim import CenterMask2LiteV19Slim
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2LiteV19SlimDW(CenterMask2LiteV19Slim):
    """CenterMask2 lite, slim VoVNetV2-19 of depthwise-separable convolutions with eSE, 48 epochs."""

    number = 36
    published = (Published(27.1, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=29.5, speed="20 ms"),)
    cost = Cost(11.2, 37.6)
    backbone = replace(CenterMask2LiteV19Slim.backbone, depthwise=True)
