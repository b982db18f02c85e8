from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_dcn import CenterMask2V39DCN
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V57DCN(CenterMask2V39DCN):
    """CenterMask2, VoVNetV2-57 with eSE and deformable convolutions (v2), 36 epochs."""

    number = 39
    published = (Published(40.9, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=45.5, speed="71 ms, V100"),)
    cost = Cost(71.9, 624.7)
    backbone = replace(CenterMask2V39DCN.backbone, depth=57)
