from config.base import Cost
from config.decoupled_solo_r50_fpn_8gpu_3x import DecoupledSOLOR50
from config.published import SOLO_ZOO, Published
from config.solo_r50_fpn_8gpu_1x import SOLOR50Short


class DecoupledSOLOR50Short(DecoupledSOLOR50):
    """Decoupled SOLO, ResNet-50, 12 epochs."""

    number = 15
    published = (Published(33.9, SOLO_ZOO, "convert/solo2paddle.py"),)
    cost = Cost(40.0, 849.5)
    augment = SOLOR50Short.augment
    train_cfg = SOLOR50Short.train_cfg
