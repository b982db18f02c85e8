from dataclasses import replace

from config.base import Cost
from config.centermask2_v39_ese_fpn_ms_3x import CenterMask2V39
from config.published import CENTERMASK2_ZOO, Published


class CenterMask2LiteV39(CenterMask2V39):
    """CenterMask2 lite, VoVNetV2-39 with eSE, 48 epochs.

    Values from the configuration file of the original program: 128 channels after the backbone, two convolutions in
    place of the other models' four, short sides 580 and 600, long side 1000.
    """

    number = 31
    published = (
        Published(36.7, CENTERMASK2_ZOO, "convert/centermask2paddle.py", box_ap=40.9, speed="28 ms, Titan Xp"),
    )
    cost = Cost(35.1, 167.8)
    neck = replace(CenterMask2V39.neck, out_channels=128)
    head = replace(CenterMask2V39.head, channels=128, stacked_convs=2)
    roi = replace(CenterMask2V39.roi, mask_channels=128, mask_convs=2, iou_channels=128, iou_convs=2)
    data = replace(CenterMask2V39.data, short_side=600, long_side=1000)
    augment = replace(CenterMask2V39.augment, short_sides=(580, 600))
    train_cfg = replace(CenterMask2V39.train_cfg, epochs=48, milestones=(40, 45))
