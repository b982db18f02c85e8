"""Which values of a config make sense."""

from __future__ import annotations

from typing import Callable

from config.base import Config
from config.errors import InputError

Rule = tuple[Callable[[object], bool], str]  # whether a value is right, and what would be, in words


def check(config: Config) -> None:
    """Raises InputError for the first field whose value makes no sense, with what would."""
    for path, (is_right, expected) in _RULES.items():
        section, field = path.split(".")
        value = getattr(getattr(config, section), field)
        if not is_right(value):
            raise InputError(f"{path}={value}: expected {expected}")
    if config.backbone.depth < 50 and (config.backbone.deform_version or config.backbone.groups > 1):
        raise InputError(
            f"backbone.depth={config.backbone.depth}: expected 50 or 101 with deformable or grouped convolutions"
        )


def _one_of(*values: object) -> Rule:
    return lambda value: value in values, " or ".join(map(str, values))


def _all(count: int, is_right: Callable[[object], bool], expected: str) -> Rule:
    return lambda values: len(values) == count and all(map(is_right, values)), f"{count} {expected}"


_GROUPED: Rule = (lambda value: value >= 32 and value % 32 == 0, "a multiple of 32, the groups of its group norm")
_POSITIVE: Rule = (lambda value: value >= 1, "1 or more")
_FRACTION: Rule = (lambda value: 0 <= value <= 1, "a number from 0 to 1")

_RULES: dict[str, Rule] = {
    "backbone.depth": _one_of(18, 34, 50, 101),
    "backbone.variant": _one_of("b", "d"),
    "backbone.groups": _POSITIVE,
    "backbone.base_width": _POSITIVE,
    "backbone.norm": _one_of("frozen", "batch", "sync"),
    "backbone.frozen_stages": _one_of(0, 1, 2, 3, 4),
    "backbone.deform_version": _one_of(0, 1, 2),
    "backbone.deform_stages": (lambda stages: set(stages) <= {1, 2, 3, 4}, "numbers from 1 to 4"),
    "backbone.lr_mults": _all(4, lambda value: value >= 0, "numbers, one for each stage, none below 0"),
    "neck.out_channels": _POSITIVE,
    "mask_feat_head.mid_channels": _GROUPED,
    "mask_feat_head.out_channels": _GROUPED,
    "mask_feat_head.deform_version": _one_of(0, 1, 2),
    "head.channels": _GROUPED,
    "head.stacked_convs": _POSITIVE,
    "head.num_grids": _all(5, lambda value: value >= 1, "whole numbers, one for each level, none below 1"),
    "head.strides": _all(5, lambda value: value >= 1, "whole numbers, one for each level, none below 1"),
    "head.deform_version": _one_of(0, 1, 2),
    "nms.score_thr": _FRACTION,
    "nms.mask_thr": _FRACTION,
    "nms.nms_pre": _POSITIVE,
    "nms.kernel": _one_of("gaussian", "linear"),
    "nms.sigma": (lambda value: value > 0, "a number above 0"),
    "nms.update_thr": _FRACTION,
    "nms.max_per_img": _POSITIVE,
    "data.short_side": _POSITIVE,
    "data.long_side": _POSITIVE,
    "data.size_divisor": (lambda value: value >= 32 and value % 32 == 0, "a multiple of 32"),
    "data.mean": _all(3, lambda value: True, "numbers, one for each colour"),
    "data.std": _all(3, lambda value: value > 0, "numbers above 0, one for each colour"),
    "data.resize_by": _one_of("size", "factor"),
    "test_cfg.score": _FRACTION,
    "test_cfg.batch_size": _POSITIVE,
}
