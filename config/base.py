"""The fields of a config, each with its default, unit and meaning. Everything is a plain value; nothing is built here.

config/networks.py has the sections that describe the network, config/rules.py the types such as `Fraction`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from config.errors import InputError
from config.networks import BackboneConfig, HeadConfig, MaskFeatHeadConfig, NeckConfig, RoIConfig
from config.published import Published
from config.rules import (
    Colour,
    Fraction,
    FractionBelow1,
    FractionRange,
    LevelRanges,
    MultipleOf32,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    OptionalSize,
    OptionalStretch,
    PositiveColour,
    PositiveFloat,
    PositiveInt,
    Seed,
    Side,
    at_least,
    side_from,
)
from config.values import as_type_of, describe_type, did_you_mean

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class NMSConfig:
    """Thresholds of decoding, and Matrix NMS (Wang et al. 2020, section 3.4).

    CenterMask2 has box NMS instead: it uses `iou_thr`, and does not use `kernel`, `sigma` and `update_thr`.
    """

    score_thr: Fraction = 0.1  # a (cell, class) is a candidate if its probability is above this
    mask_thr: OpenFraction = 0.5  # a pixel is inside a mask if its probability is above this
    iou_thr: Fraction = 0.6  # CenterMask2: a box is removed if its IoU with a better one of its class is above this
    nms_pre: PositiveInt = 500  # largest number of candidates that enter NMS; in CenterMask2 per level
    kernel: Literal["gaussian", "linear"] = "gaussian"  # decay function
    sigma: PositiveFloat = 2.0  # of the gaussian kernel
    update_thr: Fraction = 0.05  # an instance is kept if its decayed score is at least this
    max_per_img: PositiveInt = 100  # largest number of instances per picture


@dataclass(frozen=True)
class DataConfig:
    """The preparation of a picture as the network's input."""

    # Low percentile, high percentile and gamma, such as (1.0, 99.8, 0.7): when a picture file is read, its values from
    # one to the other become 0 to 255, dark ones brighter with a gamma below 1 (data/stretch.py). For pictures of 16
    # or 32 bits, which use a small part of their range. () for none. A fourth number is the least range, in values of
    # the picture, that becomes 0 to 255: without it, the noise of an empty picture is as bright as objects are.
    stretch: OptionalStretch = ()
    # Pixels. The picture is scaled until its short side is `short_side`, or less if its long side would then exceed
    # `long_side`.
    short_side: Side = 800
    long_side: Side = 1333
    size_divisor: MultipleOf32 = 32  # height and width are zero-padded at the bottom and right to a multiple of this
    # Height and width of the padded input, multiples of size_divisor. Every picture is scaled to fit into it, and
    # short_side and long_side are not used. () for none. Training ignores it.
    fixed_size: OptionalSize = ()
    mean: Colour = (123.675, 116.28, 103.53)  # RGB, 0 to 255
    std: PositiveColour = (58.395, 57.12, 57.375)
    normalize_first: bool = False  # normalise before resizing (PaddleDetection 2.x) instead of after it
    # "size": sample at the ratio of the rounded sizes; "factor": at the exact factor (PaddleDetection 0.5); "pillow":
    # with Pillow's bilinear filter, which averages pixels when it reduces a picture (detectron2).
    resize_by: Literal["size", "factor", "pillow"] = "size"
    # The part of an enlarged mask that is the picture: of its size in the network's input, "rounded", or "truncated" as
    # in PaddleDetection 0.5, where up to a column and a row less are stretched to the picture.
    crop_masks: Literal["rounded", "truncated"] = "rounded"
    bgr: bool = False  # the network's input has the channel order BGR; mean and std are in RGB order in any case


def level_ranges(scale_ranges: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the (lower, upper) end of each level's range, in pixels; see `TargetConfig.scale_ranges`."""
    return list(zip(scale_ranges[::2], scale_ranges[1::2]))


@dataclass(frozen=True)
class TargetConfig:
    """Which cell learns which instance (Wang et al. 2019, section 3.3.1)."""

    # Level i learns instances whose scale, the square root of the area of their box in pixels of the network's input,
    # is from scale_ranges[2 * i] to scale_ranges[2 * i + 1], both included. In CenterMask2 a location of level i learns
    # a box if its distance in pixels to the farthest of the box's four sides is in this range.
    scale_ranges: LevelRanges = (1.0, 96.0, 48.0, 192.0, 96.0, 384.0, 192.0, 768.0, 384.0, 2048.0)
    # Pixels subtracted from x2 - x1 and y2 - y1: 1 in the original SOLO and PaddleDetection 0.5, 0 in 2.x.
    box_border: Literal[0, 1] = 1
    # Positive cells touch the region around the centre of mass whose sides are this share of the box's sides.
    centre_fraction: Fraction = 0.2
    centre_radius: PositiveFloat = 1.5  # CenterMask2: strides; locations this close to the box's centre are positive
    min_area: PositiveInt = 1  # pixels of the network's input; smaller instances are not learnt (SOLO: 10)
    skip_empty_masks: bool = False  # do not learn masks that are empty at the size of the targets (PaddleDetection)
    soft_masks: bool = False  # a mask target is the share of a pixel that is inside (area average) instead of 0 or 1


@dataclass(frozen=True)
class LossConfig:
    """Focal loss for classes (Lin et al. 2017) and dice loss for masks; CenterMask2 ignores `dice_weight`."""

    dice_weight: NonNegativeFloat = 3.0
    focal_gamma: NonNegativeFloat = 2.0
    focal_alpha: Fraction = 0.25


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training pictures, in this order; a step with probability 0 is left out."""

    copy_paste: Fraction = 0.0  # probability of pasting instances of a second picture (Ghiasi et al. 2021)
    mixup: Fraction = 0.0  # probability of blending with a second picture; keeps both's instances (Zhang et al. 2018)
    mix_beta: PositiveFloat = 1.5  # Beta(mix_beta, mix_beta) gives the first picture's share in mixup and cutmix
    cutmix: Fraction = 0.0  # probability of replacing a rectangle by that of a second picture (Yun et al. 2019)
    # Probability of changing brightness, contrast, saturation and hue, drawn for each of them (Liu et al. 2016).
    distort: Fraction = 0.0
    distort_brightness: NonNegativeFloat = 32.0  # largest shift of the values 0 to 255
    distort_contrast: Fraction = 0.5  # largest relative change
    distort_saturation: Fraction = 0.5  # largest relative change
    distort_hue: NonNegativeFloat = 18.0  # largest shift in degrees, 0 to 360
    crop: Fraction = 0.0  # probability of a random crop that contains instances (Liu et al. 2016)
    short_sides: tuple[Side, ...] = ()  # pixels; one is drawn for each picture; () for data.short_side
    # Epoch i has short_sides[i] instead of a random one, and the last one when there are no more. Small pictures in the
    # first epochs teach nearly as much and cost less (progressive learning, Tan and Le 2021).
    side_by_epoch: bool = False
    flip: Fraction = 0.5  # probability of exchanging left and right
    flip_vertical: Fraction = 0.0  # probability of exchanging top and bottom
    turn: Fraction = 0.0  # probability of a rotation by 90 degrees

    def in_epoch(self, epoch: int) -> AugmentConfig:
        """Return the settings of one epoch, counted from 0; they depend on it only with `side_by_epoch`."""
        if not (self.side_by_epoch and self.short_sides):
            return self
        return replace(self, short_sides=(self.short_sides[min(epoch, len(self.short_sides) - 1)],))


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train.py`."""

    model_path: str = "weights/{backbone}_imagenet.pdparams"  # checkpoint to start from; empty: random weights
    batch_size: PositiveInt = 2  # pictures per batch in each process
    epochs: PositiveInt = 36
    optimizer: Literal["momentum", "adam", "adamw"] = "momentum"
    momentum: Fraction = 0.9
    weight_decay: NonNegativeFloat = 0.0001
    no_decay: tuple[Literal["norm", "bias"], ...] = ()  # parameters without weight decay
    backbone_decay: NonNegativeFloat = 1.0  # weight decay of the backbone, as a share of weight_decay
    # Biases trained at twice the learning rate without weight decay (PaddleDetection). "head": those of the heads'
    # deformable convolutions and their offsets; "neck": those of the pyramid.
    fast_biases: tuple[Literal["head", "neck"], ...] = ()
    lr: NonNegativeFloat = 0.01  # learning rate for a total batch of `lr_batch` pictures
    lr_batch: PositiveInt = 16
    autoscale_lr: bool = True  # multiply the learning rate by total batch / lr_batch
    schedule: Literal["piecewise", "cosine"] = "piecewise"  # cosine ends at 0
    milestones: tuple[PositiveInt, ...] = (27, 33)  # piecewise: at the end of these epochs the learning rate ...
    gamma: Fraction = 0.1  # ... is multiplied by this
    warmup_iters: NonNegativeInt = 500  # steps of linear warm-up, limited to a third of the training
    warmup_factor: Fraction = 0.01  # share of the learning rate at the first step of the warm-up
    clip_norm: NonNegativeFloat = 35.0  # largest norm of all gradients together; 0: no clipping
    accumulate: PositiveInt = 1  # batches whose gradients are averaged for one step
    ema_decay: FractionBelow1 = 0.0  # decay of the exponential moving average of the weights; 0: no average
    precision: Literal["fp32", "O1", "O2"] = "fp32"  # O1, O2: Paddle's levels of mixed precision, float16 on a GPU
    loss_scale: NonNegativeFloat = 0.0  # loss scaling of mixed precision; 0: dynamic
    keep_empty: bool = False  # also train on pictures without instances
    workers: NonNegativeInt = 4  # threads that prepare pictures, in each process
    # Processes that train.py starts on a CPU, which share its cores. 0: as many as there are cores, which share the
    # pictures of `batch_size` too; one where a batch norm would see fewer pictures, or the batch cannot be shared.
    processes: NonNegativeInt = 0
    seed: Seed = 0
    log_every: PositiveInt = 20  # steps between lines of the log
    save_every: PositiveInt = 1000  # steps between checkpoints; evaluations and the end of training write one too
    keep: PositiveInt = 3  # number of newest checkpoints to keep, in addition to the best one
    eval_every: NonNegativeInt = 1  # epochs between evaluations; 0: no evaluation
    # End the training after this many evaluations without a new best score; 0: never. The schedule of the learning
    # rate is then cut short.
    patience: NonNegativeInt = 0


# The augmentation of PaddleDetection 0.5: the hue is any angle, and the brightness adds up to 1.5 of 255: nothing.
PPDET_0_5_AUGMENT = AugmentConfig(distort=0.5, distort_brightness=0.0, distort_hue=180.0, crop=1.0)

# The settings of PaddleDetection, and of its models with deformable convolutions; the defaults above are those of the
# original SOLOv2.
PPDET_TRAINING = TrainConfig(
    milestones=(24, 33), warmup_iters=1000, warmup_factor=0.0, clip_norm=0.0, no_decay=("norm",)
)
PPDET_DEFORMABLE_TRAINING = replace(PPDET_TRAINING, fast_biases=("head",), ema_decay=0.9998)


@dataclass(frozen=True)
class EvalConfig:
    """Settings of `eval.py`."""

    model_path: str = "weights/{name}.pdparams"  # checkpoint to evaluate
    # Pictures per run of the network, padded to the largest of them: the padding moves cells, and so changes results.
    batch_size: PositiveInt = 1
    score: Fraction = 0.0  # instances with a lower score are not counted
    max_dets: Annotated[int, at_least(11)] = 100  # instances per picture and class that AP counts; COCO counts 100
    # What `train.py` selects the best checkpoint by: mask AP, or the match score S (tools/evaluate/match_score.py),
    # whose score threshold then becomes the checkpoint's `test_cfg.score`. `eval.py` prints S too.
    select_by: Literal["ap", "match"] = "ap"


@dataclass(frozen=True)
class TestConfig:
    """Settings of `demo.py` and of the Python class `Predictor`."""

    __test__ = False  # tells pytest that this is not a test case

    model_path: str = "weights/{name}.pdparams"  # checkpoint to run
    score: Fraction = 0.3  # instances with a lower score are not shown or written
    # Pictures per run of the network, padded to the largest of them: the padding moves cells, and so changes results.
    batch_size: PositiveInt = 1


@dataclass(frozen=True)
class ShapesConfig:
    """Generated pictures of shapes, for configs that train on them; see data/shapes.py."""

    train_pictures: NonNegativeInt = 0  # 0: this config has another data set
    val_pictures: PositiveInt = 200
    height: Annotated[int, side_from(64)] = 320  # pixels
    width: Annotated[int, side_from(64)] = 320
    diameters: FractionRange = (1 / 8, 1 / 2)  # smallest and largest, as shares of the shorter side


@dataclass(frozen=True)
class Cost:
    """The size of a network and its work per picture, as tools/engine/operations.py counts them."""

    parameters: float  # millions, without the statistics of norms
    # Billions of floating-point operations of the convolutions and fully connected layers for a picture of 640 x 480
    # pixels; a multiplication with its addition counts as two. CenterMask2 is counted with max_per_img boxes.
    gflop: float


_DATA_FIELDS = ("train_path", "classes_path")


class Config:
    """A model with everything needed to run it; a numbered subclass contains only what differs.

    Instances are read-only; `replace` and `config.overrides.override` return changed copies. Defining a subclass
    raises InputError if it has an attribute that is not a field, or a value of another type than the default.
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

    # Paths are relative to the project's folder. A line of the class list has a name, or a category id, a tab and a
    # name. A checkpoint contains its own class list.
    classes_path: str = "data/coco_classes.txt"
    num_classes: int = 80  # replaced by the number of classes in the checkpoint or the class list
    train_path: str = "datasets/coco/annotations/instances_train2017.json"  # annotations in COCO format ...
    train_pre_path: str = "datasets/coco/train2017"  # ... and the folder of their pictures
    val_path: str = "datasets/coco/annotations/instances_val2017.json"
    val_pre_path: str = "datasets/coco/val2017"
    test_path: str = "datasets/coco/annotations/image_info_test-dev2017.json"  # of eval.py --split test-dev
    test_pre_path: str = "datasets/coco/test2017"
    demo_input: str = "images/test"  # pictures that demo.py reads by default
    demo_output: str = "images/res"  # folder that demo.py and tools/infer_onnx.py write to by default

    def __init_subclass__(cls) -> None:
        _check_attributes(cls)
        cls.name = cls.__module__.rpartition(".")[2]  # the name of the file
        published = vars(cls).get("published", ())  # not inherited: a parent's checkpoints do not fit ...
        cls.published = (published,) if isinstance(published, Published) else tuple(published)
        cls.cost = vars(cls).get("cost")  # ... and its cost is that of another network

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"a config is read-only; use replace({field}=...)")

    def replace(self, **fields: object) -> Config:
        """Return a copy with other values for these attributes (sections or plain fields)."""
        changed = copy.copy(self)
        changed.__dict__.update(fields)
        return changed

    @property
    def classes_file(self) -> Path:
        return PROJECT / self.classes_path

    @property
    def lists_its_classes(self) -> bool:
        """Whether `classes_path` is the class list of the data in `train_path`.

        It is not if an override or a subclass sets `train_path` and only a parent sets `classes_path`: the classes
        are then those of the annotations.
        """
        scopes = [vars(self), *map(vars, type(self).__mro__)]  # the most specific first
        depth = {field: next(i for i, scope in enumerate(scopes) if field in scope) for field in _DATA_FIELDS}
        return depth["classes_path"] <= depth["train_path"]

    def model_path(self, section: str) -> Path:
        """Return the checkpoint of a section: `train_cfg`, `eval_cfg` or `test_cfg`.

        `{name}` and `{backbone}` become the names of the config and of its backbone; other braces stay.
        """
        path = getattr(self, section).model_path.replace("{name}", self.name)
        return PROJECT / path.replace("{backbone}", self.backbone.name)


PLAIN_FIELDS = tuple(name for name in Config.__annotations__ if isinstance(getattr(Config, name, None), str))
SECTIONS = tuple(name for name, value in vars(Config).items() if is_dataclass(value))
_ATTRIBUTES = {  # what a subclass may define, with a value of the right type
    "number": 0,
    "published": (Published(0.0, "", ""),),
    "cost": Cost(0.0, 0.0),
    "num_classes": Config.num_classes,
    **{name: getattr(Config, name) for name in (*PLAIN_FIELDS, *SECTIONS)},
}


def known_fields(config: Config | type[Config]) -> dict[str, object]:
    """Return the value of each field that `-o` can change, by `section.field`; of the class `Config`, the defaults."""
    known = {name: getattr(config, name) for name in PLAIN_FIELDS}
    for name in SECTIONS:
        section = getattr(config, name)
        known.update({f"{name}.{field.name}": getattr(section, field.name) for field in fields(section)})
    return known


def with_field(config: Config, path: str, value: object) -> Config:
    """Return a copy in which one of `known_fields` has another value."""
    section, _, field = path.rpartition(".")
    if not section:
        return config.replace(**{field: value})
    return config.replace(**{section: replace(getattr(config, section), **{field: value})})


def file_of(config_class: type[Config]) -> str:
    """Return the path of a config's file, relative to the project's folder."""
    return f"{config_class.__module__.replace('.', '/')}.py"


def _check_attributes(config_class: type[Config]) -> None:
    """Raise InputError for an attribute of a config class that is not a field or has a value of another type."""
    for name, value in vars(config_class).items():
        if name.startswith("_"):
            continue
        place = f"{file_of(config_class)}: {config_class.__name__}.{name}"
        if name not in _ATTRIBUTES:
            known = [*_ATTRIBUTES, *known_fields(Config)]
            hint = did_you_mean(name, known, otherwise=f"the fields are {', '.join(_ATTRIBUTES)}")
            raise InputError(f"{place} is not a field of a config; {hint}")
        try:
            as_type_of(_ATTRIBUTES[name], value)
        except TypeError:
            raise InputError(f"{place}={value!r}: expected {describe_type(_ATTRIBUTES[name])}") from None
        for statement in value if isinstance(value, tuple) else (value,):
            if isinstance(statement, (Published, Cost)):
                _check_statement(statement, place)
        if name == "number" and value < 0:
            raise InputError(f"{place}={value}: expected 0 or more")


def _check_statement(statement: Published | Cost, place: str) -> None:
    """Raise InputError for a value of another type in what a config states about its network."""
    for field in fields(statement):
        value = getattr(statement, field.name)
        kinds = (str,) if "str" in str(field.type) else (float, int, type(field.default))
        if not isinstance(value, kinds):
            raise InputError(f"{place}: {field.name}={value!r}: expected {'text' if str in kinds else 'a number'}")
