from dataclasses import replace

from config.base import Cost
from config.decoupled_solo_light_r50_fpn_8gpu_3x import DecoupledSOLOLightR50
from config.published import SOLO_ZOO, Published


class DecoupledSOLOLightDCNR50(DecoupledSOLOLightR50):
    """Decoupled SOLO light with deformable convolutions (v1), ResNet-50, short side 512."""

    number = 19
    published = (Published(35.0, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(33.0, 203.1)
    backbone = replace(DecoupledSOLOLightR50.backbone, deform_version=1, deform_stages=(2, 3, 4))
    head = replace(DecoupledSOLOLightR50.head, deform_version=1)
