"""What a config can say: every field with its default, unit and meaning. Plain values, nothing is built here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet or ResNeXt (He et al. 2015, Xie et al. 2016), in the variants `b` and `d` of He et al. 2018."""

    depth: int = 50  # 18, 34, 50 or 101
    variant: str = "b"  # "b": stride on the 3x3 convolution; "d": also a deep stem and pooled shortcuts (vd)
    groups: int = 1  # 64 makes it a ResNeXt 64x4d together with base_width=4
    base_width: int = 64  # channels of a group of the first stage's 3x3 convolution
    norm: str = "frozen"  # "frozen": running statistics always; "batch"; "sync": over all GPUs, plain batch norm on CPU
    frozen_stages: int = 1  # stages that are not trained: 0 none, 1 the stem and the first stage, 2 the second too ...
    deform_version: int = 0  # 0 no deformable convolution, 1 offsets, 2 offsets and modulation (DCN v1, v2)
    deform_stages: tuple[int, ...] = ()  # stages 1 to 4 whose 3x3 convolutions are deformable
    lr_mults: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)  # learning-rate multiplier of each stage


@dataclass(frozen=True)
class NeckConfig:
    """Feature pyramid network (Lin et al. 2016); the extra level is a subsampled copy of the last one."""

    out_channels: int = 256


@dataclass(frozen=True)
class MaskFeatHeadConfig:
    """The mask feature branch of SOLOv2 (Wang et al. 2020, section 3.3.1)."""

    mid_channels: int = 128
    out_channels: int = 256  # channels of the mask features, which is the number of weights in a kernel
    deform_version: int = 0  # as in the backbone; all convolutions of the branch are deformable or none
    deform_bias: bool = False  # a bias in the deformable convolutions, which PaddleDetection 2.x has


@dataclass(frozen=True)
class HeadConfig:
    """The category and kernel branches of SOLOv2 (Wang et al. 2020, section 3.2)."""

    channels: int = 512  # of the two towers
    stacked_convs: int = 4  # length of a tower
    num_grids: tuple[int, ...] = (40, 36, 24, 16, 12)  # S of each level; a level predicts S x S cells
    strides: tuple[int, ...] = (8, 8, 16, 32, 32)  # pixels; a mask counts if its area at 1/4 size exceeds it
    deform_version: int = 0  # as in the backbone
    deform_all: bool = False  # every convolution of a tower is deformable, not only the last one
    deform_bias: bool = False  # as in the mask feature branch
    drop_block: bool = False  # DropBlock before the two predictions in training (PaddleDetection's enhanced model)


@dataclass(frozen=True)
class NMSConfig:
    """From raw predictions to instances: thresholds and Matrix NMS (Wang et al. 2020, section 3.4)."""

    score_thr: float = 0.1  # a (cell, category) is a candidate above this probability
    mask_thr: float = 0.5  # a pixel is inside above this probability
    nms_pre: int = 500  # candidates that enter Matrix NMS
    kernel: str = "gaussian"  # decay function: "gaussian" or "linear"
    sigma: float = 2.0  # of the gaussian kernel
    update_thr: float = 0.05  # an instance is kept at or above this decayed score
    max_per_img: int = 100  # instances of a picture


@dataclass(frozen=True)
class DataConfig:
    """How a picture becomes the network's input."""

    short_side: int = 800  # pixels; the picture is scaled until its short side has this length ...
    long_side: int = 1333  # ... unless its long side would exceed this one
    size_divisor: int = 32  # height and width are padded with zeros at the bottom and right to a multiple of it
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # RGB, 0 to 255
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    normalize_first: bool = False  # normalise, then resize the float picture (PaddleDetection 2.x), not the reverse
    resize_by: str = "size"  # sample at the ratio of the rounded sizes, or "factor": at the exact factor (0.5)


@dataclass(frozen=True)
class TrainConfig:
    model_path: str = "weights/{name}.pdparams"  # checkpoint to start from


@dataclass(frozen=True)
class EvalConfig:
    model_path: str = "weights/{name}.pdparams"  # checkpoint to evaluate


@dataclass(frozen=True)
class TestConfig:
    """What `demo.py` and the Python predictor use."""

    __test__ = False  # not a test case, whatever its name looks like to pytest

    model_path: str = "weights/{name}.pdparams"  # checkpoint to run
    score: float = 0.3  # instances below this score are not shown or written
    batch_size: int = 1  # pictures that go through the network together, padded to the largest of them


@dataclass(frozen=True)
class Published:
    """A checkpoint that somebody published for a config."""

    mask_ap: float  # COCO mask AP in percent, as its publisher states it
    where: str
    convert: str  # the script that reads it


SOLO_ZOO = "github.com/WXinlong/SOLO, model zoo in its README"
PPDET_ZOO = "paddledet.bj.bcebos.com/models/{}.pdparams"
PPDET_0_5_ZOO = "paddlemodels.bj.bcebos.com/object_detection/{}.pdparams"


class Config:
    """One model with everything needed to run it; a numbered subclass states only what differs.

    Instances are read-only. `replace` and `config.override` give changed copies.
    """

    number: int
    name: str
    published: tuple[Published, ...] = ()

    backbone = BackboneConfig()
    neck = NeckConfig()
    mask_feat_head = MaskFeatHeadConfig()
    head = HeadConfig()
    nms = NMSConfig()
    data = DataConfig()
    train_cfg = TrainConfig()
    eval_cfg = EvalConfig()
    test_cfg = TestConfig()

    # Paths are relative to the project's folder.
    classes_path: str = "data/coco_classes.txt"  # one class a line: its name, or its category id, a tab and its name;
    # a checkpoint brings its own
    num_classes: int = 80  # programs take it from the checkpoint or the class list
    test_path: str = "images/test"  # pictures that demo.py reads by default
    test_pre_path: str = "images/res"  # folder that demo.py writes to by default

    def __init_subclass__(cls) -> None:
        cls.name = cls.__module__.rpartition(".")[2]  # the name of the file

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"a config is read-only; use replace({field}=...)")

    def replace(self, **fields: object) -> Config:
        """A copy in which whole fields (sections or plain values) are changed."""
        changed = copy.copy(self)
        changed.__dict__.update(fields)
        return changed

    @property
    def description(self) -> str:
        return " ".join(type(self).__doc__.split())

    @property
    def classes_file(self) -> Path:
        return PROJECT / self.classes_path

    def model_path(self, section: str) -> Path:
        """Where `train_cfg`, `eval_cfg` or `test_cfg` looks for its checkpoint."""
        return PROJECT / getattr(self, section).model_path.format(name=self.name)
