from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_ese_fpn_ms_3x import CenterMask2V39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V99(CenterMask2V39):
    """CenterMask2, VoVNetV2-99 with eSE, 36 epochs."""

    number = 33
    published = (Published(41.4, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=46.0, speed="77 ms, V100"),)
    cost = Cost(97.0, 868.9)
    backbone = replace(CenterMask2V39.backbone, depth=99)
