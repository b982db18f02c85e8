from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_ese_fpn_ms_3x import CenterMask2V39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2V39DCN(CenterMask2V39):
    """CenterMask2, VoVNetV2-39 with eSE and deformable convolutions (v2), 36 epochs."""

    number = 38
    published = (Published(40.3, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=45.1, speed="61 ms, V100"),)
    cost = Cost(54.4, 554.4)
    backbone = replace(CenterMask2V39.backbone, deform_version=2, deform_stages=(2, 3, 4))
