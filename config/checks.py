"""Which values of a config make sense."""

from __future__ import annotations

import math
from typing import Callable

from config.base import Config, file_of, known_fields, level_ranges, with_field
from config.errors import InputError
from config.networks import BOX_STRIDES, BackboneConfig
from config.values import type_words, typed

Rule = tuple[Callable[[object], bool], str]  # whether a value is right, and what would be, in words


def check(config: Config) -> Config:
    """The config with every value in the type of its default, a list as a tuple and a whole number as a float.

    Raises InputError for the first field whose value is of another type or makes no sense, with what would.
    """
    config = _with_types(config)
    for path, (is_right, expected) in _RULES.items():
        section, field = path.split(".")
        value = getattr(getattr(config, section), field)
        if not is_right(value):
            raise InputError(f"{path}={value}: expected {expected}")
    _check_levels(config)
    _check_backbone(config.backbone)
    for section, field in _GROUPED:
        channels, groups = getattr(getattr(config, section), field), getattr(config, section).norm_groups
        if channels % groups:
            raise InputError(f"{section}.{field}={channels}: expected a multiple of {section}.norm_groups={groups}")
    for field, kind in (("drop_block", "solov2"), ("shared_tower", "decoupled_solo")):
        if getattr(config.head, field) and config.head.kind != kind:
            raise InputError(f"head.{field}=true: is for head.kind={kind}; this config has {config.head.kind}")
    if any(side < 1 or side % config.data.size_divisor for side in config.data.fixed_size):
        raise InputError(
            f"data.fixed_size={config.data.fixed_size}: expected multiples of data.size_divisor="
            f"{config.data.size_divisor}"
        )
    mixed = math.fsum(getattr(config.augment, field) for field in _MIXING)
    if mixed > 1:
        names = " + ".join(f"augment.{field}" for field in _MIXING)
        raise InputError(f"{names}={mixed:g}: expected 1 or less, because one of them happens to a picture at most")
    if config.data.normalize_first and config.data.resize_by == "pillow":
        raise InputError("data.resize_by=pillow: expected size or factor with data.normalize_first=true")
    if config.roi.size % 2:
        raise InputError(f"roi.size={config.roi.size}: expected an even number")
    return config


def _check_levels(config: Config) -> None:
    """Raises InputError where a level has no stride or no range."""
    levels, of_what = len(config.head.num_grids), "head.num_grids"
    counts = [("head.strides", config.head.strides, levels)]
    if config.head.finds_boxes:
        levels, of_what, counts = len(BOX_STRIDES), "CenterMask2", []
    for path, values, count in (*counts, ("target.scale_ranges", config.target.scale_ranges, 2 * levels)):
        if len(values) != count:
            raise InputError(f"{path}={values}: expected {count} numbers for the {levels} levels of {of_what}")


def _check_backbone(config: BackboneConfig) -> None:
    """Raises InputError for a depth or a variation that this kind of backbone does not have."""
    depths = _DEPTHS[config.kind]
    if config.depth not in depths:
        expected = " or ".join(map(str, depths))
        raise InputError(f"backbone.depth={config.depth}: expected {expected} with backbone.kind={config.kind}")
    varied = config.deform_version or config.groups > 1
    if varied and config.depth not in _BOTTLENECK_DEPTHS:
        raise InputError(f"backbone.depth={config.depth}: expected 50 or 101 with deformable or grouped convolutions")


def _with_types(config: Config) -> Config:
    defaults = known_fields(Config)
    for path, value in known_fields(config).items():
        try:
            right = typed(value, like=defaults[path])
        except TypeError:
            expected = type_words(defaults[path])
            raise InputError(f"{file_of(type(config))}: {path}={value!r}: expected {expected}") from None
        for number in right if isinstance(right, tuple) else (right,):
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{path}={value}: expected finite numbers only")
        if right is not value:
            config = with_field(config, path, right)
    return config


def _one_of(*values: object) -> Rule:
    return lambda value: value in values, " or ".join(map(str, values))


def _all(count: int, is_right: Callable[[object], bool], expected: str) -> Rule:
    return lambda values: len(values) == count and all(map(is_right, values)), f"{count} {expected}"


def _each(is_right: Callable[[object], bool], expected: str) -> Rule:
    return lambda values: all(map(is_right, values)), expected


# Probabilities of which at most one comes true for a picture.
_MIXING = ("copy_paste", "mixup", "cutmix")

# Channels that a group norm divides: section and field.
_GROUPED = (("mask_feat_head", "mid_channels"), ("mask_feat_head", "out_channels"), ("head", "channels"))

_DEPTHS = {"resnet": (18, 34, 50, 101), "vovnet": (39, 57, 99)}  # by `backbone.kind`
_BOTTLENECK_DEPTHS = (50, 101)

_POSITIVE: Rule = (lambda value: value >= 1, "1 or more")
_NATURAL: Rule = (lambda value: value >= 0, "0 or more")
_FRACTION: Rule = (lambda value: 0 <= value <= 1, "a number from 0 to 1")

_RULES: dict[str, Rule] = {
    "backbone.kind": _one_of(*_DEPTHS),
    "backbone.stem_channels": (lambda value: value >= 2 and value % 2 == 0, "an even number"),
    "backbone.stage_channels": _all(4, lambda value: value >= 1, "numbers, one for each stage, none below 1"),
    "backbone.stage_outputs": _all(4, lambda value: value >= 1, "numbers, one for each stage, none below 1"),
    "backbone.variant": _one_of("b", "d"),
    "backbone.groups": _POSITIVE,
    "backbone.base_width": _POSITIVE,
    "backbone.norm": _one_of("frozen", "batch", "sync"),
    "backbone.frozen_stages": _one_of(0, 1, 2, 3, 4),
    "backbone.deform_version": _one_of(0, 1, 2),
    "backbone.deform_stages": (lambda stages: set(stages) <= {1, 2, 3, 4}, "numbers from 1 to 4"),
    "backbone.lr_mults": _all(4, lambda value: value >= 0, "numbers, one for each stage, none below 0"),
    "neck.out_channels": _POSITIVE,
    "mask_feat_head.mid_channels": _POSITIVE,
    "mask_feat_head.out_channels": _POSITIVE,
    "mask_feat_head.norm_groups": _POSITIVE,
    "mask_feat_head.deform_version": _one_of(0, 1, 2),
    "head.kind": _one_of("solov2", "solo", "decoupled_solo", "centermask2"),
    "head.channels": _POSITIVE,
    "head.stacked_convs": _POSITIVE,
    "head.num_grids": (
        lambda values: 1 <= len(values) <= 5 and min(values) >= 1,
        "1 to 5 whole numbers, one for each level from P2 on, none below 1",
    ),
    "head.strides": _each(lambda value: value >= 1, "whole numbers, one for each level, none below 1"),
    "head.norm_groups": _POSITIVE,
    "head.deform_version": _one_of(0, 1, 2),
    "roi.size": _POSITIVE,
    "roi.mask_channels": _POSITIVE,
    "roi.mask_convs": _POSITIVE,
    "roi.iou_channels": _POSITIVE,
    "roi.iou_convs": _POSITIVE,
    "roi.iou_features": _POSITIVE,
    "roi.train_boxes": _POSITIVE,
    "roi.foreground_iou": _FRACTION,
    "roi.masks_per_img": _POSITIVE,
    "nms.score_thr": _FRACTION,
    "nms.iou_thr": _FRACTION,
    "nms.mask_thr": (lambda value: 0 < value < 1, "a number above 0 and below 1"),
    "nms.nms_pre": _POSITIVE,
    "nms.kernel": _one_of("gaussian", "linear"),
    "nms.sigma": (lambda value: value > 0, "a number above 0"),
    "nms.update_thr": _FRACTION,
    "nms.max_per_img": _POSITIVE,
    "data.short_side": _POSITIVE,
    "data.long_side": _POSITIVE,
    "data.size_divisor": (lambda value: value >= 32 and value % 32 == 0, "a multiple of 32"),
    "data.fixed_size": (lambda sides: len(sides) in (0, 2), "a height and a width, or () for none"),
    "data.mean": _all(3, lambda value: True, "numbers, one for each colour"),
    "data.std": _all(3, lambda value: value > 0, "numbers above 0, one for each colour"),
    "data.resize_by": _one_of("size", "factor", "pillow"),
    "target.scale_ranges": (
        lambda values: all(low <= high for low, high in level_ranges(values)),
        "pairs of a lower and an upper end",
    ),
    "target.centre_fraction": _FRACTION,
    "target.centre_radius": (lambda value: value > 0, "a number above 0"),
    "target.box_border": _one_of(0, 1),
    "target.min_area": _POSITIVE,
    "loss.dice_weight": _NATURAL,
    "loss.focal_gamma": _NATURAL,
    "loss.focal_alpha": _FRACTION,
    "augment.copy_paste": _FRACTION,
    "augment.mixup": _FRACTION,
    "augment.mix_beta": (lambda value: value > 0, "a number above 0"),
    "augment.cutmix": _FRACTION,
    "augment.distort": _FRACTION,
    "augment.distort_brightness": _NATURAL,
    "augment.distort_contrast": _FRACTION,
    "augment.distort_saturation": _FRACTION,
    "augment.distort_hue": _NATURAL,
    "augment.crop": _FRACTION,
    "augment.short_sides": _each(lambda value: value >= 1, "whole numbers, none below 1"),
    "augment.flip": _FRACTION,
    "augment.flip_vertical": _FRACTION,
    "augment.turn": _FRACTION,
    "train_cfg.batch_size": _POSITIVE,
    "train_cfg.epochs": _POSITIVE,
    "train_cfg.optimizer": _one_of("momentum", "adam", "adamw"),
    "train_cfg.momentum": _FRACTION,
    "train_cfg.weight_decay": _NATURAL,
    "train_cfg.no_decay": (lambda values: set(values) <= {"norm", "bias"}, "norm, bias, both or none"),
    "train_cfg.lr": _NATURAL,
    "train_cfg.lr_batch": _POSITIVE,
    "train_cfg.schedule": _one_of("piecewise", "cosine"),
    "train_cfg.milestones": _each(lambda value: value >= 1, "whole numbers, none below 1"),
    "train_cfg.gamma": _FRACTION,
    "train_cfg.warmup_iters": _NATURAL,
    "train_cfg.warmup_factor": _FRACTION,
    "train_cfg.clip_norm": _NATURAL,
    "train_cfg.accumulate": _POSITIVE,
    "train_cfg.ema_decay": (lambda value: 0 <= value < 1, "a number from 0 to below 1"),
    "train_cfg.precision": _one_of("fp32", "O1", "O2"),
    "train_cfg.loss_scale": _NATURAL,
    "train_cfg.workers": _NATURAL,
    "train_cfg.processes": _POSITIVE,
    "train_cfg.seed": (lambda value: 0 <= value < 2**32, "a whole number from 0 to 2**32 - 1"),
    "train_cfg.log_every": _POSITIVE,
    "train_cfg.save_every": _POSITIVE,
    "train_cfg.keep": _POSITIVE,
    "train_cfg.eval_every": _NATURAL,
    "eval_cfg.batch_size": _POSITIVE,
    "eval_cfg.score": _FRACTION,
    "shapes.train_pictures": _NATURAL,
    "shapes.val_pictures": _POSITIVE,
    "shapes.height": (lambda value: value >= 64, "64 or more"),
    "shapes.width": (lambda value: value >= 64, "64 or more"),
    "shapes.diameters": (
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
        "two numbers from 0 to 1, the smaller first",
    ),
    "test_cfg.score": _FRACTION,
    "test_cfg.batch_size": _POSITIVE,
}
