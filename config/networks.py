"""The sections of a config that describe a network: every field with its default, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from config.rules import EvenInt, Fraction, GridSizes, NonNegativeInt, PositiveInt, StageChannels, StageFactors, one_of

DEPTHS = {  # by BackboneConfig.kind
    "resnet": (18, 34, 50, 101),
    "vovnet": (19, 39, 57, 99),
    "mobilenetv2": (53,),
    "mobilenetv3": (49,),
}
_WIDTHS, _DEFORMABLE = ("stem_channels", "stage_channels"), ("deform_version", "deform_stages")
# Fields of BackboneConfig that not all kinds have, by BackboneConfig.kind; the others keep their defaults.
BACKBONE_OPTIONS = {
    "resnet": (*_WIDTHS, *_DEFORMABLE, "variant", "groups", "base_width"),
    "vovnet": (*_WIDTHS, *_DEFORMABLE, "stage_outputs", "depthwise"),
    "mobilenetv2": (),
    "mobilenetv3": (),
}
SLIM_WIDTHS = (64, 80, 96, 112)  # stage_channels of the slim VoVNetV2, which is part of its name
DeformVersion = Literal[0, 1, 2]  # 0: no deformable convolution; 1: offsets (DCN v1); 2: also modulation (DCN v2)


@dataclass(frozen=True)
class HeadKind:
    """A kind of network: what its descriptor is, and what configs must know of it."""

    descriptor: str  # the NetworkKind of its programs, as "module:class"
    predicts_boxes: bool = False  # boxes at locations, not instances at the cells of grids
    options: tuple[str, ...] = ()  # fields of HeadConfig, False or 0 if not used, that only this kind has


HEAD_KINDS = {  # by the value of `head.kind`
    "solov2": HeadKind("tools.common.kinds:SOLOv2Kind", options=("drop_block", "reach")),
    "solo": HeadKind("tools.common.kinds:SOLOKind"),
    "decoupled_solo": HeadKind("tools.common.kinds:DecoupledSOLOKind", options=("shared_tower",)),
    "centermask2": HeadKind("tools.common.kinds:CenterMask2Kind", predicts_boxes=True),
}
BOX_STRIDES = (8, 16, 32, 64, 128)  # strides of the levels P3 to P7 of CenterMask2, in pixels of the network's input


def level_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return (height, width) of each of the feature maps P3 to P7 for an input of this size in pixels."""
    return tuple(((height + stride - 1) // stride, (width + stride - 1) // stride) for stride in BOX_STRIDES)


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet, ResNeXt (He et al. 2015, Xie et al. 2016), VoVNetV2 (Lee and Park 2020), MobileNetV2 or MobileNetV3.

    ResNets have the variants `b` and `d` of He et al. 2018, VoVNetV2 has eSE attention, MobileNetV2 has width 1.0
    (Sandler et al. 2018), MobileNetV3 is the large one (Howard et al. 2019). `BACKBONE_OPTIONS` lists the fields that
    only some kinds have.
    """

    kind: Literal["resnet", "vovnet", "mobilenetv2", "mobilenetv3"] = "resnet"
    depth: int = 50  # number of layers in the model's name, one of DEPTHS[kind], which may have a single one
    stem_channels: EvenInt = 64
    # Width of each of the four stages; from depth 50 on, a ResNet stage has 4 times as many output channels.
    stage_channels: StageChannels = (64, 128, 256, 512)
    stage_outputs: StageChannels = (256, 512, 768, 1024)  # VoVNet: output channels of each stage
    # VoVNet: 3x3 convolutions are depthwise-separable, and the stem has stem_channels outputs instead of twice as many.
    depthwise: bool = False
    # ResNet. "b": the stride is on the 3x3 convolution; "d": also a deep stem and pooling in shortcuts (ResNet-vd).
    variant: Literal["b", "d"] = "b"
    groups: PositiveInt = 1  # ResNet: groups=64 with base_width=4 is ResNeXt 64x4d
    base_width: PositiveInt = 64  # ResNet: channels per group in the 3x3 convolutions of the first stage
    # "frozen": always uses the running statistics; "batch": batch norm; "sync": batch norm over all GPUs, on a CPU the
    # same as "batch".
    norm: Literal["frozen", "batch", "sync"] = "frozen"
    train_norm: bool = True  # train scale and shift of the norms in stages that are trained (False in PaddleDetection)
    # Number of parts that are not trained: 0 none, 1 the stem and the first stage, 2 also the second stage, and so on.
    # Norms of kind "batch" or "sync" update their statistics in these too, as in PaddleDetection.
    frozen_stages: Literal[0, 1, 2, 3, 4] = 1
    deform_version: DeformVersion = 0
    deform_stages: tuple[Literal[1, 2, 3, 4], ...] = ()  # stages whose 3x3 convolutions are deformable
    lr_mults: StageFactors = (1.0, 1.0, 1.0, 1.0)  # learning-rate multiplier of each stage; the stem has the first

    @property
    def name(self) -> str:
        """The name of its ImageNet checkpoint, without `_imagenet.pdparams`."""
        if self.kind == "vovnet":
            slim = "_slim" if self.stage_channels == SLIM_WIDTHS else ""
            return f"vovnet{self.depth}_ese{slim}{'_dw' if self.depthwise else ''}"
        if self.kind != "resnet":
            return self.kind
        if self.groups > 1:
            return f"resnext{self.depth}_{self.groups}x{self.base_width}d"
        return f"resnet{self.depth}{'_vd' if self.variant == 'd' else ''}"


@dataclass(frozen=True)
class NeckConfig:
    """Feature pyramid network (Lin et al. 2016) with the levels P2 to P6; P6 is subsampled from P5.

    CenterMask2 has P3 to P7; P6 and P7 are computed by convolutions, as in FCOS (Tian et al. 2019).
    """

    out_channels: PositiveInt = 256


@dataclass(frozen=True)
class MaskFeatHeadConfig:
    """The mask feature branch of SOLOv2 (Wang et al. 2020, section 3.3.1); the other networks have none."""

    mid_channels: PositiveInt = 128
    out_channels: PositiveInt = 256  # channels of the mask features, and weights of each predicted kernel
    deform_version: DeformVersion = 0  # applies to all convolutions of the branch
    deform_bias: bool = False  # deformable convolutions have a bias (True in PaddleDetection 2.x)
    norm_groups: PositiveInt = 32  # groups of the group norms
    # Pixels of the network's input per pixel of the masks. 2: the last convolution predicts four pixels for each one of
    # P2 (sub-pixel convolution, Shi et al. 2016), for objects that are small or need exact outlines.
    stride: Literal[2, 4] = 4


@dataclass(frozen=True)
class HeadConfig:
    """The head: classes for each cell, and a mask or a mask kernel (Wang et al. 2019 and 2020).

    CenterMask2 predicts classes, a centerness and a box for each location (FCOS, Tian et al. 2019). It uses only
    `channels`, `stacked_convs` and `norm_groups` of these fields; `RoIConfig` describes its mask head.
    """

    kind: Annotated[str, one_of(HEAD_KINDS)] = "solov2"  # also selects targets, losses and decoding
    channels: PositiveInt = 512  # channels of the towers
    stacked_convs: PositiveInt = 4  # convolutions in a tower
    num_grids: GridSizes = (40, 36, 24, 16, 12)  # S of each level, from P2 on; a level predicts S x S cells
    # Pixels, for each level. A mask is kept if its area, at 1/4 of the input's size, exceeds the stride of its level.
    strides: tuple[PositiveInt, ...] = (8, 8, 16, 32, 32)
    deform_version: DeformVersion = 0
    deform_all: bool = False  # every convolution of a tower is deformable, instead of only the last one
    deform_bias: bool = False  # deformable convolutions have a bias (True in PaddleDetection 2.x)
    shared_tower: bool = False  # Decoupled SOLO: one tower for both axes (light models) instead of one for each
    norm_groups: PositiveInt = 32  # groups of the group norms
    # SOLOv2, for hundreds of small objects: a mask ends so many of its pixels from the centre of its cell, in rows and
    # in columns, and its kernel has six more weights, of a polynomial in the place relative to the cell (compare the
    # relative coordinates of CondInst, Tian et al. 2020). 0: a mask may be anywhere.
    reach: NonNegativeInt = 0
    drop_block: bool = False  # DropBlock before both predictions in training (PaddleDetection's enhanced model)

    @property
    def levels(self) -> int:
        """Levels of the pyramid that predict: one for each grid, or P3 to P7 for boxes."""
        return len(BOX_STRIDES) if HEAD_KINDS[self.kind].predicts_boxes else len(self.num_grids)


@dataclass(frozen=True)
class RoIConfig:
    """The mask head of CenterMask2: SAG-Mask and mask scoring (Lee and Park 2020, Huang et al. 2019)."""

    size: EvenInt = 14  # side of the RoIAlign output; predicted masks have twice that
    mask_channels: PositiveInt = 256  # channels of the 3x3 convolutions of SAG-Mask
    mask_convs: PositiveInt = 4
    iou_channels: PositiveInt = 256  # channels of the 3x3 convolutions that estimate a mask's IoU
    iou_convs: PositiveInt = 4
    iou_features: PositiveInt = 1024  # width of the two fully connected layers after them
    train_boxes: PositiveInt = 100  # predicted boxes per picture used in training, in addition to the annotated ones
    foreground_iou: Fraction = 0.5  # a predicted box with this IoU or more with an annotated box learns its mask
    masks_per_img: PositiveInt = 128  # largest number of masks learnt per picture
