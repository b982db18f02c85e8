"""What a config can say: every field with its default, unit and meaning. Plain values, nothing is built here."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from config.errors import InputError
from config.networks import BackboneConfig, HeadConfig, MaskFeatHeadConfig, NeckConfig, RoIConfig
from config.values import did_you_mean, type_words, typed

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class NMSConfig:
    """From raw predictions to instances: thresholds and Matrix NMS (Wang et al. 2020, section 3.4).

    CenterMask2 suppresses boxes that overlap a better one of their class; `kernel`, `sigma` and `update_thr` are not
    for it.
    """

    score_thr: float = 0.1  # a (cell, category) is a candidate above this probability
    mask_thr: float = 0.5  # a pixel is inside above this probability
    iou_thr: float = 0.6  # of two boxes above which the worse one is suppressed, in CenterMask2
    nms_pre: int = 500  # candidates that enter NMS; in CenterMask2 of each level
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
    # Height and width, multiples of size_divisor, of every padded picture that a trained network is run on; the picture
    # is scaled to fit. () for none: short_side and long_side say how large it is. Training does not follow it.
    fixed_size: tuple[int, ...] = ()
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # RGB, 0 to 255
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    normalize_first: bool = False  # normalise, then resize the float picture (PaddleDetection 2.x), not the reverse
    # "size": sample at the ratio of the rounded sizes; "factor": at the exact factor (0.5); "pillow": by Pillow's
    # bilinear filter, which averages where it makes a picture smaller (detectron2).
    resize_by: str = "size"
    bgr: bool = False  # blue comes first in the network's input; mean and std are in the order of RGB nevertheless


@dataclass(frozen=True)
class TargetConfig:
    """Which cell learns which instance (Wang et al. 2019, section 3.3.1)."""

    # Level i learns the instances with a scale, the square root of their box's area in pixels of the network's input,
    # from scale_ranges[2 * i] to scale_ranges[2 * i + 1], both included. In CenterMask2 a location of level i learns a
    # box if the farthest of its four sides is that many pixels away.
    scale_ranges: tuple[float, ...] = (1.0, 96.0, 48.0, 192.0, 96.0, 384.0, 192.0, 768.0, 384.0, 2048.0)
    box_border: int = 1  # a box's sides are this much less than its pixels (original SOLO: 1, PaddleDetection: 0)
    centre_fraction: float = 0.2  # of the box's sides: cells this near to the centre of mass are positive
    centre_radius: float = 1.5  # strides: locations this near to the box's centre are positive, in CenterMask2
    min_area: int = 1  # pixels of the network's input; smaller instances are not learnt (SOLO: 10)
    skip_empty_masks: bool = False  # masks that vanish as targets are not learnt (PaddleDetection)
    soft_masks: bool = False  # mask targets are the share of inside pixels (area average), not 0 or 1


def level_ranges(scale_ranges: tuple[float, ...]) -> list[tuple[float, float]]:
    """The lower and the upper end of each level's range, in pixels, of a list such as `TargetConfig.scale_ranges`."""
    return list(zip(scale_ranges[::2], scale_ranges[1::2]))


@dataclass(frozen=True)
class LossConfig:
    """Focal loss (Lin et al. 2017) for the categories and dice loss for masks, which in CenterMask2 has no weight."""

    dice_weight: float = 3.0
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a picture in training, in this order; a probability of 0 leaves a step out."""

    copy_paste: float = 0.0  # probability; instances of a second picture are pasted in (Ghiasi et al. 2021)
    mixup: float = 0.0  # probability; the second picture shines through, its instances are added (Zhang et al. 2018)
    mix_beta: float = 1.5  # both parameters of the beta distribution that the share of either is drawn from
    cutmix: float = 0.0  # probability; a rectangle of the second picture replaces that of the first (Yun et al. 2019)
    distort: float = 0.0  # probability of each of brightness, contrast, saturation and hue (Liu et al. 2016)
    distort_brightness: float = 32.0  # largest shift of the values 0 to 255
    distort_contrast: float = 0.5  # largest relative change
    distort_saturation: float = 0.5  # largest relative change
    distort_hue: float = 18.0  # largest turn in degrees of 360
    crop: float = 0.0  # probability; a random part that covers instances (Liu et al. 2016)
    short_sides: tuple[int, ...] = ()  # pixels; one is drawn for each picture, or none: the side in `data`
    # The first epoch has the first of short_sides, the second the second ..., and the last from then on; none is drawn.
    # Small pictures at the beginning teach nearly as much and cost less (progressive learning, Tan and Le 2021).
    side_by_epoch: bool = False
    flip: float = 0.5  # probability of a mirror image, left and right exchanged
    flip_vertical: float = 0.0  # probability of one with top and bottom exchanged
    turn: float = 0.0  # probability of a quarter turn

    def in_epoch(self, epoch: int) -> AugmentConfig:
        """What happens in one epoch, counted from 0, where `side_by_epoch` tells them apart."""
        if not (self.side_by_epoch and self.short_sides):
            return self
        return replace(self, short_sides=(self.short_sides[min(epoch, len(self.short_sides) - 1)],))


@dataclass(frozen=True)
class TrainConfig:
    """How `train.py` trains."""

    model_path: str = "weights/{backbone}_imagenet.pdparams"  # checkpoint to start from; empty: random weights
    batch_size: int = 2  # pictures a step in each process
    epochs: int = 36
    optimizer: str = "momentum"  # "momentum", "adam" or "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0001
    no_decay: tuple[str, ...] = ("norm", "bias")  # parameters without weight decay
    lr: float = 0.01  # learning rate at a total batch of `lr_batch` pictures
    lr_batch: int = 16
    autoscale_lr: bool = True  # learning rate times total batch / lr_batch
    schedule: str = "piecewise"  # "piecewise" or "cosine", which ends at 0
    milestones: tuple[int, ...] = (27, 33)  # epochs at whose end the piecewise learning rate is multiplied ...
    gamma: float = 0.1  # ... by this
    warmup_iters: int = 500  # steps of linear warm-up; at most a third of the training
    warmup_factor: float = 1 / 3  # share of the learning rate that the warm-up begins with
    clip_norm: float = 35.0  # largest norm of all gradients together; 0: not clipped
    accumulate: int = 1  # batches whose gradients are averaged for one step
    ema_decay: float = 0.0  # of the exponential moving average of the weights; 0: none
    precision: str = "fp32"  # "fp32", "O1" or "O2": mixed precision of Paddle, float16 on GPU
    loss_scale: float = 0.0  # of mixed precision; 0: dynamic
    keep_empty: bool = False  # train on pictures without instances too
    workers: int = 4  # threads that prepare pictures in each process
    processes: int = 1  # processes that train.py starts on a CPU, a thread each; 1: one process with all cores
    seed: int = 0
    log_every: int = 20  # steps between lines in the log
    save_every: int = 1000  # steps between checkpoints, besides those at the end and at evaluations
    keep: int = 3  # newest checkpoints that are kept, besides the best one
    eval_every: int = 1  # epochs between evaluations; 0: none


# PaddleDetection's way of training its enhanced models; the defaults are those of the original SOLO.
PPDET_TRAINING = TrainConfig(
    milestones=(24, 33), warmup_iters=1000, warmup_factor=0.0, clip_norm=0.0, no_decay=("norm",), ema_decay=0.9998
)


@dataclass(frozen=True)
class EvalConfig:
    """What `eval.py` uses."""

    model_path: str = "weights/{name}.pdparams"  # checkpoint to evaluate
    batch_size: int = 1  # pictures that go through the network together, padded to the largest of them
    score: float = 0.0  # instances below this score are not counted
    test_dev_path: str = "datasets/coco/annotations/image_info_test-dev2017.json"  # pictures of --split test-dev ...
    test_dev_pre_path: str = "datasets/coco/test2017"  # ... and their folder


@dataclass(frozen=True)
class TestConfig:
    """What `demo.py` and the Python predictor use."""

    __test__ = False  # not a test case, whatever its name looks like to pytest

    model_path: str = "weights/{name}.pdparams"  # checkpoint to run
    score: float = 0.3  # instances below this score are not shown or written
    batch_size: int = 1  # pictures that go through the network together, padded to the largest of them


@dataclass(frozen=True)
class ShapesConfig:
    """Generated pictures of shapes to train on, for configs whose data set they are; see data/shapes.py."""

    train_pictures: int = 0  # 0: the data set is none of these
    val_pictures: int = 200
    height: int = 320  # pixels
    width: int = 320
    diameters: tuple[float, ...] = (1 / 8, 1 / 2)  # smallest and largest, as shares of the shorter side


@dataclass(frozen=True)
class Published:
    """A checkpoint that somebody published for a config."""

    mask_ap: float  # COCO mask AP in percent, as its publisher states it
    where: str
    convert: str  # the script that reads it

    def command(self, number: int) -> str:
        """What makes a checkpoint of ours of it, given the config's number."""
        return f"python {self.convert} FILE --config={number}"


@dataclass(frozen=True)
class Cost:
    """What a network has and does, as `tools/engine/operations.py` counts it."""

    parameters: float  # millions, without the statistics of norms
    # Thousand million operations of its convolutions for a photo of 480 x 640 pixels, in CenterMask2 with as many boxes
    # as it may find.
    gflop: float


SOLO_ZOO = "github.com/WXinlong/SOLO, model zoo in its README"
PPDET_ZOO = "paddledet.bj.bcebos.com/models/{}.pdparams"
CENTERMASK2_ZOO = "github.com/youngwanLEE/centermask2, model zoo in its README"
PPDET_0_5_ZOO = "paddlemodels.bj.bcebos.com/object_detection/{}.pdparams"


_DATA_FIELDS = ("train_path", "classes_path")


class Config:
    """One model with everything needed to run it; a numbered subclass states only what differs.

    Instances are read-only. `replace` and `config.override` give changed copies. The class statement of a subclass
    raises InputError for what is no field, or of another type than the default.
    """

    number: int
    name: str
    published: tuple[Published, ...] = ()
    cost: Cost | None = None

    backbone = BackboneConfig()
    neck = NeckConfig()
    mask_feat_head = MaskFeatHeadConfig()
    head = HeadConfig()
    roi = RoIConfig()
    nms = NMSConfig()
    data = DataConfig()
    target = TargetConfig()
    loss = LossConfig()
    augment = AugmentConfig()
    train_cfg = TrainConfig()
    eval_cfg = EvalConfig()
    test_cfg = TestConfig()
    shapes = ShapesConfig()

    # Paths are relative to the project's folder.
    classes_path: str = "data/coco_classes.txt"  # one class a line: its name, or its category id, a tab and its name;
    # a checkpoint brings its own
    num_classes: int = 80  # programs take it from the checkpoint or the class list
    train_path: str = "datasets/coco/annotations/instances_train2017.json"  # annotations in COCO form ...
    train_pre_path: str = "datasets/coco/train2017"  # ... and the folder of their pictures
    val_path: str = "datasets/coco/annotations/instances_val2017.json"
    val_pre_path: str = "datasets/coco/val2017"
    test_path: str = "images/test"  # pictures that demo.py reads by default
    test_pre_path: str = "images/res"  # folder that demo.py writes to by default

    def __init_subclass__(cls) -> None:
        _check_stated(cls)
        cls.name = cls.__module__.rpartition(".")[2]  # the name of the file
        cls.published = vars(cls).get("published", ())  # a derived config's checkpoints are its own ...
        cls.cost = vars(cls).get("cost")  # ... and so is its network

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"a config is read-only; use replace({field}=...)")

    def replace(self, **fields: object) -> Config:
        """A copy in which whole fields (sections or plain values) are changed."""
        changed = copy.copy(self)
        changed.__dict__.update(fields)
        return changed

    @property
    def classes_file(self) -> Path:
        return PROJECT / self.classes_path

    @property
    def deformable_ungrouped(self) -> bool:
        """Whether the network has deformable convolutions, and none of them in groups."""
        parts = [self.backbone, self.head, *([self.mask_feat_head] if self.head.kind == "solov2" else [])]
        return any(part.deform_version for part in parts) and self.backbone.groups == 1

    @property
    def lists_its_classes(self) -> bool:
        """Whether `classes_path` is about the data in `train_path`: it is stated with it or by who is more specific.

        Who names another data set and no class list wants the classes of its annotations, not the list of a parent.
        """
        places = [vars(self), *map(vars, type(self).__mro__)]
        stated = {field: next(i for i, place in enumerate(places) if field in place) for field in _DATA_FIELDS}
        return stated["classes_path"] <= stated["train_path"]

    def model_path(self, section: str) -> Path:
        """Where `train_cfg`, `eval_cfg` or `test_cfg` looks for its checkpoint."""
        return PROJECT / getattr(self, section).model_path.format(name=self.name, backbone=self.backbone.name)


PLAIN_FIELDS = tuple(name for name in Config.__annotations__ if isinstance(getattr(Config, name, None), str))
SECTIONS = tuple(name for name, value in vars(Config).items() if is_dataclass(value))
_STATED_TYPES = {
    "number": 0,
    "published": (Published(0.0, "", ""),),
    "cost": Cost(0.0, 0.0),
    "num_classes": Config.num_classes,
    **{name: getattr(Config, name) for name in (*PLAIN_FIELDS, *SECTIONS)},
}


def known_fields(config: Config | type[Config]) -> dict[str, object]:
    """Every name that can be overridden with its present value, or for the class itself with its default."""
    known = {name: getattr(config, name) for name in PLAIN_FIELDS}
    for name in SECTIONS:
        section = getattr(config, name)
        known.update({f"{name}.{field.name}": getattr(section, field.name) for field in fields(section)})
    return known


def with_field(config: Config, path: str, value: object) -> Config:
    """A copy in which one of `known_fields` is changed."""
    section, _, field = path.rpartition(".")
    if not section:
        return config.replace(**{field: value})
    return config.replace(**{section: replace(getattr(config, section), **{field: value})})


def file_of(kind: type[Config]) -> str:
    """The file that states a config, from the project's folder on."""
    return f"{kind.__module__.replace('.', '/')}.py"


def _check_stated(kind: type[Config]) -> None:
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if name not in _STATED_TYPES:
            known = [*_STATED_TYPES, *known_fields(Config)]
            hint = did_you_mean(name, known, otherwise=f"known are {', '.join(_STATED_TYPES)}")
            raise InputError(f"{file_of(kind)}: {kind.__name__}.{name} is no field of a config; {hint}")
        try:
            typed(value, like=_STATED_TYPES[name])
        except TypeError:
            expected = type_words(_STATED_TYPES[name])
            raise InputError(f"{file_of(kind)}: {kind.__name__}.{name}={value!r}: expected {expected}") from None
        if name == "number" and value < 0:
            raise InputError(f"{file_of(kind)}: {kind.__name__}.number={value}: expected 0 or more")
