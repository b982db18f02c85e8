from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_ese_fpn_ms_3x import CenterMask2V39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V57(CenterMask2V39):
    """CenterMask2, VoVNetV2-57 with eSE, 36 epochs."""

    number = 32
    published = (Published(40.5, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=45.1, speed="58 ms, V100"),)
    cost = Cost(68.9, 606.8)
    backbone = replace(CenterMask2V39.backbone, depth=57)
