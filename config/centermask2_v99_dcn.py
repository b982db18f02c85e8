from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_dcn import CenterMask2V39DCN
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V99DCN(CenterMask2V39DCN):
    """CenterMask2, VoVNetV2-99 with eSE and deformable convolutions (v2), 36 epochs."""

    number = 40
    published = (Published(42.0, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=46.9, speed="110 ms, V100"),)
    cost = Cost(102.4, 914.8)
    backbone = replace(CenterMask2V39DCN.backbone, depth=99)
