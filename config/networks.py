"""The sections of a config that say what a network is made of: every field with its default, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass

BOX_STRIDES = (8, 16, 32, 64, 128)  # pixels of the input between two locations of P3 to P7, in CenterMask2


def level_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the maps P3 to P7 of an input of this size."""
    return tuple(((height + stride - 1) // stride, (width + stride - 1) // stride) for stride in BOX_STRIDES)


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet or ResNeXt (He et al. 2015, Xie et al. 2016), in the variants `b` and `d` of He et al. 2018, or VoVNetV2
    with eSE (Lee and Park 2020), which has no variants, groups or deformable stages."""

    kind: str = "resnet"  # "resnet" or "vovnet"
    depth: int = 50  # 18, 34, 50 or 101; of VoVNet 39, 57 or 99
    stem_channels: int = 64
    stage_channels: tuple[int, ...] = (64, 128, 256, 512)  # of the four stages; blocks of depth 50 on end with 4 times
    stage_outputs: tuple[int, ...] = (256, 512, 768, 1024)  # channels that the blocks of VoVNet's stages end with
    variant: str = "b"  # "b": stride on the 3x3 convolution; "d": also a deep stem and pooled shortcuts (vd)
    groups: int = 1  # 64 makes it a ResNeXt 64x4d together with base_width=4
    base_width: int = 64  # channels of a group of the first stage's 3x3 convolution
    norm: str = "frozen"  # "frozen": running statistics always; "batch"; "sync": over all GPUs, plain batch norm on CPU
    train_norm: bool = True  # scale and shift of the norms are trained where their stage is (PaddleDetection: not)
    # Stages that are not trained: 0 none, 1 the stem and the first stage, 2 the second too ... The statistics of their
    # norms still move where the kind is "batch" or "sync", as in PaddleDetection; norm="frozen" keeps them.
    frozen_stages: int = 1
    deform_version: int = 0  # 0 no deformable convolution, 1 offsets, 2 offsets and modulation (DCN v1, v2)
    deform_stages: tuple[int, ...] = ()  # stages 1 to 4 whose 3x3 convolutions are deformable
    lr_mults: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)  # learning-rate multiplier of each stage

    @property
    def name(self) -> str:
        """What an ImageNet checkpoint of it is called."""
        if self.kind == "vovnet":
            return f"vovnet{self.depth}_ese"
        if self.groups > 1:
            return f"resnext{self.depth}_{self.groups}x{self.base_width}d"
        return f"resnet{self.depth}{'_vd' if self.variant == 'd' else ''}"


@dataclass(frozen=True)
class NeckConfig:
    """Feature pyramid network (Lin et al. 2016): P2 to P6, the last a subsampled copy of the one before.

    For CenterMask2 P3 to P7, the last two made by convolutions, as in FCOS (Tian et al. 2019).
    """

    out_channels: int = 256


@dataclass(frozen=True)
class MaskFeatHeadConfig:
    """The mask feature branch of SOLOv2 (Wang et al. 2020, section 3.3.1); SOLO and Decoupled SOLO have none."""

    mid_channels: int = 128
    out_channels: int = 256  # channels of the mask features, which is the number of weights in a kernel
    deform_version: int = 0  # as in the backbone; all convolutions of the branch are deformable or none
    deform_bias: bool = False  # a bias in the deformable convolutions, which PaddleDetection 2.x has
    norm_groups: int = 32  # of the group norms


@dataclass(frozen=True)
class HeadConfig:
    """What a cell predicts: its categories, and a mask or what a mask is made by (Wang et al. 2019 and 2020).

    In CenterMask2 a location predicts categories, a centerness and a box (FCOS, Tian et al. 2019), and `roi` says how
    a mask is made for a box; of the fields here it has `channels`, `stacked_convs` and `norm_groups`.
    """

    kind: str = "solov2"  # "solov2", "solo", "decoupled_solo" or "centermask2": the network and what is learnt
    channels: int = 512  # of the towers
    stacked_convs: int = 4  # length of a tower
    num_grids: tuple[int, ...] = (40, 36, 24, 16, 12)  # S of each level, from P2 on; a level predicts S x S cells
    strides: tuple[int, ...] = (8, 8, 16, 32, 32)  # pixels; a mask counts if its area at 1/4 size exceeds it
    deform_version: int = 0  # as in the backbone
    deform_all: bool = False  # every convolution of a tower is deformable, not only the last one
    deform_bias: bool = False  # as in the mask feature branch
    shared_tower: bool = False  # one tower for both axes of Decoupled SOLO (its light models), not one for each
    norm_groups: int = 32  # of the group norms
    drop_block: bool = False  # DropBlock before the two predictions in training (PaddleDetection's enhanced model)

    @property
    def finds_boxes(self) -> bool:
        """Whether an instance is found as a box, with a mask made in it, and not as a cell of a grid."""
        return self.kind == "centermask2"

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """How many pixels of the input a side of one pixel of a mask has that a level learns."""
        return ((4, 4, 4, 4, 4) if self.kind == "solov2" else (4, 4, 8, 16, 16))[: len(self.num_grids)]


@dataclass(frozen=True)
class RoIConfig:
    """How CenterMask2 makes a mask of a box: SAG-Mask and mask scoring (Lee and Park 2020, Huang et al. 2019)."""

    size: int = 14  # side of what RoIAlign cuts out of the pyramid; masks have twice that
    mask_channels: int = 256  # of the 3x3 convolutions that a mask is made by
    mask_convs: int = 4
    iou_channels: int = 256  # of the 3x3 convolutions that the mask's IoU is estimated by
    iou_convs: int = 4
    iou_features: int = 1024  # of the two layers behind them
    train_boxes: int = 100  # found boxes of a picture that masks are learnt in, beside the annotated ones
    foreground_iou: float = 0.5  # of a found box with an annotated one from which on it learns its mask
    masks_per_img: int = 128  # masks that are learnt in one picture, at most
