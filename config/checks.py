"""Check that the values of a config make sense: the rule of each field, and the rules that involve several fields."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from config.base import SECTIONS, Config, known_fields, with_field
from config.errors import InputError
from config.networks import BACKBONE_OPTIONS, DEPTHS, HEAD_KINDS, BackboneConfig
from config.rules import rule_of
from config.values import as_type_of, describe_type

# A picture gets at most one of these augmentations.
_MIXING = ("copy_paste", "mixup", "cutmix")

# Section and field of the channels that a group norm divides into groups.
_GROUPED = (("mask_feat_head", "mid_channels"), ("mask_feat_head", "out_channels"), ("head", "channels"))

_BOTTLENECK_DEPTHS = (50, 101)  # of ResNets, only their blocks can be deformable or grouped


def check(config: Config) -> Config:
    """Return the config with each value converted to the type of its default: a list to a tuple, an int to a float.

    Raises InputError for the first field whose value is of another type or breaks a rule; it names what is expected.
    """
    config = _convert_types(config)
    values = known_fields(config)
    for path, annotation in field_types().items():
        rule = rule_of(annotation)
        if rule and not rule.accepts(values[path]):
            raise InputError(f"{path}={values[path]}: expected {rule.expected}")
    _check_levels(config)
    _check_backbone(config.backbone)
    _check_head(config)
    _check_training(config)
    _check_nms(config)
    _check_pictures(config)
    if config.train_cfg.backbone_decay != 1 and config.train_cfg.optimizer == "adamw":
        raise InputError(
            f"train_cfg.backbone_decay={config.train_cfg.backbone_decay}: needs train_cfg.optimizer=momentum or adam"
        )
    return config


@lru_cache(maxsize=1)
def field_types() -> dict[str, Any]:
    """Return the type of each field of the sections, with its rule, by `section.field` in the order of declaration."""
    types = {name: get_type_hints(type(getattr(Config, name)), include_extras=True) for name in SECTIONS}
    return {f"{section}.{field}": types[section][field] for section in SECTIONS for field in types[section]}


@lru_cache(maxsize=1)
def example_values() -> dict[str, Any]:
    """Return a value of the type of each of `known_fields`: its default, or one item for an empty list."""
    examples = known_fields(Config)
    for path, annotation in field_types().items():
        words = [word for item in get_args(annotation) for word in get_args(item) if isinstance(word, str)]
        if examples[path] == () and words:
            examples[path] = (words[0],)
        elif examples[path] == () and float in get_args(get_args(annotation)[0]):
            examples[path] = (0.0,)
    return examples


def _convert_types(config: Config) -> Config:
    examples = example_values()
    for path, value in known_fields(config).items():
        try:
            converted = as_type_of(examples[path], value)
        except TypeError:
            raise InputError(f"{path}={value!r}: expected {describe_type(examples[path])}") from None
        for number in converted if isinstance(converted, tuple) else (converted,):
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{path}={value}: expected finite numbers only")
        if converted is not value:
            config = with_field(config, path, converted)
    return config


def _check_levels(config: Config) -> None:
    """Raise InputError if the number of strides or of scale ranges is not the number of levels."""
    head, ranges = config.head, config.target.scale_ranges
    predicts_boxes = HEAD_KINDS[head.kind].predicts_boxes
    levels_of = f"head.kind={head.kind}" if predicts_boxes else "head.num_grids"
    counts = [("target.scale_ranges", ranges, 2 * head.levels)]
    if not predicts_boxes:
        counts.insert(0, ("head.strides", head.strides, head.levels))
    for path, values, count in counts:
        if len(values) != count:
            raise InputError(f"{path}={values}: expected {count} numbers for the {head.levels} levels of {levels_of}")


def _check_backbone(backbone: BackboneConfig) -> None:
    """Raise InputError for a depth or an option that this kind of backbone does not have, or not together."""
    kind, depths = backbone.kind, DEPTHS[backbone.kind]
    if backbone.depth not in depths:
        expected = " or ".join(map(str, depths))
        raise InputError(f"backbone.depth={backbone.depth}: expected {expected} with backbone.kind={kind}")
    for field in fields(backbone):
        owners = [owner for owner, options in BACKBONE_OPTIONS.items() if field.name in options]
        value = getattr(backbone, field.name)
        if owners and kind not in owners and value != field.default:
            expected = " or ".join(owners)
            raise InputError(f"backbone.{field.name}={value}: needs backbone.kind={expected}; this config has {kind}")
    has_special = backbone.deform_version or backbone.groups > 1
    if kind == "resnet" and has_special and backbone.depth not in _BOTTLENECK_DEPTHS:
        expected = " or ".join(map(str, _BOTTLENECK_DEPTHS))
        raise InputError(
            f"backbone.depth={backbone.depth}: expected {expected} with deformable or grouped convolutions"
        )
    if backbone.depthwise and backbone.deform_version:
        raise InputError(
            f"backbone.depthwise=true: expected false with backbone.deform_version={backbone.deform_version}"
        )


def _check_head(config: Config) -> None:
    """Raise InputError for channels that the group norms cannot divide, and for options of another kind of network."""
    for section, field in _GROUPED:
        channels, groups = getattr(getattr(config, section), field), getattr(config, section).norm_groups
        if channels % groups:
            raise InputError(f"{section}.{field}={channels}: expected a multiple of {section}.norm_groups={groups}")
    for name, kind in HEAD_KINDS.items():
        for option in kind.options:
            if getattr(config.head, option) and config.head.kind != name:
                raise InputError(f"head.{option}: needs head.kind={name}; this config has {config.head.kind}")


def _check_training(config: Config) -> None:
    if config.train_cfg.patience and not config.train_cfg.eval_every:
        raise InputError(
            f"train_cfg.patience={config.train_cfg.patience}: counts evaluations, and train_cfg.eval_every=0 makes none"
        )


def _check_nms(config: Config) -> None:
    """Raise InputError for more instances than candidates, which boxes have on each level."""
    most, candidates = config.nms.max_per_img, config.nms.nms_pre
    if most > candidates and not HEAD_KINDS[config.head.kind].predicts_boxes:
        raise InputError(
            f"nms.max_per_img={most}: expected at most nms.nms_pre={candidates}, the candidates of which the instances "
            "are chosen; raise that too"
        )


def _check_pictures(config: Config) -> None:
    """Raise InputError for settings of the preparation or augmentation of pictures that contradict each other."""
    data = config.data
    if any(side < 1 or side % data.size_divisor for side in data.fixed_size):
        fitting = [max(-(-side // data.size_divisor), 1) * data.size_divisor for side in data.fixed_size]
        raise InputError(
            f"data.fixed_size={data.fixed_size}: expected positive multiples of data.size_divisor={data.size_divisor}, "
            f"such as {'x'.join(map(str, fitting))} for --input-size"
        )
    if data.normalize_first and data.resize_by == "pillow":
        raise InputError("data.resize_by=pillow: expected size or factor with data.normalize_first=true")
    total = math.fsum(getattr(config.augment, field) for field in _MIXING)
    if total > 1:
        names = " + ".join(f"augment.{field}" for field in _MIXING)
        raise InputError(f"{names}={total:g}: expected 1 or less, because a picture gets at most one of them")
