"""Values that break a rule: each is refused with the name of its field and what is expected."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_config, registry
from config.base import PLAIN_FIELDS, Config, known_fields, level_ranges, with_field
from config.checks import check, field_types
from config.errors import InputError
from config.rules import PositiveInt, rule_of


def test_every_field_has_a_rule_in_its_type():
    """Only switches and paths need none, and the depth, whose choices depend on the kind of backbone."""
    types = field_types()
    assert {*types, *PLAIN_FIELDS} == set(known_fields(Config))
    without = {path for path, annotation in types.items() if not rule_of(annotation)}
    switches = {path for path, annotation in types.items() if annotation is bool}
    paths = {path for path, annotation in types.items() if annotation is str and path.endswith("_path")}
    assert without == {"backbone.depth"} | switches | paths


def test_a_rule_comes_from_the_type():
    assert rule_of(int) is rule_of(tuple[float, ...]) is None
    assert rule_of(Literal["a", "b"]).expected == "a or b"
    assert [rule_of(PositiveInt).accepts(value) for value in (0, 1)] == [False, True]
    items = rule_of(tuple[PositiveInt, ...])
    assert items.expected == "each item to be 1 or more"
    assert [items.accepts(values) for values in ((), (1, 2), (1, 0))] == [True, True, False]


def test_no_number_accepts_every_value():
    """A value that makes no sense for any field is refused by all of them, with the field's name."""
    for path, value in known_fields(Config).items():
        if isinstance(value, (bool, str)):
            continue
        text = "weights" if path == "train_cfg.no_decay" else "-7"
        if path in ("data.mean", "backbone.deform_stages", "target.scale_ranges"):
            text = "-7,-8,-9,-10,-11"
        with pytest.raises(InputError, match=path):
            load_config(0, [f"{path}={text}"])


@pytest.mark.parametrize("number", sorted(registry()))
def test_our_configs_follow_all_rules(number):
    check(load_config(number))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["target.scale_ranges=1,96,48,192,96,384,192,768,384"], "expected 10 numbers for the 5 levels"),
        (["target.scale_ranges=96,1,48,192,96,384,192,768,384,2048"], "a lower and an upper end"),
        (["target.centre_fraction=1.1"], "from 0 to 1"),
        (["target.box_border=2"], "0 or 1"),
        (["nms.mask_thr=1"], "below 1"),
        (["target.soft_masks=yes"], "true or false"),
        (["augment.flip=1.5"], "from 0 to 1"),
        (["augment.mix_beta=0"], "above 0"),
        (["augment.short_sides=640,0"], "each item to be a whole number from 1 to 32768"),
        (["augment.short_sides=640.5"], "a list of numbers"),
        (["augment.copy_paste=0.5", "augment.mixup=0.4", "augment.cutmix=0.2"], r"copy_paste.*mixup.*cutmix=1\.1"),
        (["train_cfg.batch_size=0"], "1 or more"),
        (["train_cfg.batch_size=2.5"], "a whole number"),
        (["train_cfg.optimizer=sgd"], "momentum or adam or adamw"),
        (["train_cfg.schedule=step"], "piecewise or cosine"),
        (["train_cfg.milestones=0"], "each item to be 1 or more"),
        (["train_cfg.no_decay=weights"], "each item to be norm or bias"),
        (["train_cfg.no_decay=norm,weights"], "each item to be norm or bias"),
        (["train_cfg.ema_decay=1"], "below 1"),
        (["train_cfg.precision=fp16"], "fp32 or O1 or O2"),
        (["train_cfg.accumulate=0"], "1 or more"),
        (["train_cfg.keep=0"], "1 or more"),
        (["train_cfg.workers=-1"], "0 or more"),
        (["train_cfg.seed=-1"], "from 0 to"),
        (["train_cfg.seed=4294967296"], "from 0 to"),
        (["shapes.height=63"], "from 64 to 32768"),
        (["data.short_side=32769"], "from 1 to 32768"),
        (["data.long_side=1000000000000000000000000000000"], "from 1 to 32768"),
        (["data.size_divisor=32800"], "32 to 32768"),
        (["data.fixed_size=64,65536"], "at most 32768"),
        (["data.fixed_size=640"], "a height and a width"),
        (["data.fixed_size=640,650"], "multiples of data.size_divisor=32"),
        (["data.fixed_size=0,640"], "multiples of data.size_divisor=32"),
    ],
)
def test_a_broken_rule_is_reported_in_one_line(overrides, says):
    with pytest.raises(InputError, match=says) as error:
        load_config(0, overrides)
    assert "\n" not in str(error.value)
    assert overrides[0].partition("=")[0] in str(error.value)


@pytest.mark.parametrize("text", ["1e999", "-1e999"])
def test_numbers_are_finite(text):
    for path, value in known_fields(Config).items():
        sample = value[0] if isinstance(value, tuple) and value else value
        if isinstance(sample, float):
            with pytest.raises(InputError, match=f"{path}=.*inf.*: expected finite numbers only"):
                load_config(0, [f"{path}={text}"])
            with pytest.raises(InputError, match=f"{path}=.*nan.*: expected finite numbers only"):
                check(with_field(Config(), path, (float("nan"),) if isinstance(value, tuple) else float("nan")))


def test_level_ranges_are_pairs():
    assert level_ranges((1.0, 96.0, 48.0, 192.0)) == [(1.0, 96.0), (48.0, 192.0)]


@pytest.mark.parametrize("text", ["(" * 300, "-" * 100_000 + "1"], ids=["brackets", "signs"])
def test_text_that_cannot_be_parsed_is_refused(text):
    with pytest.raises(InputError, match="expected a whole number"):
        load_config(0, [f"data.short_side={text}"])


@pytest.mark.parametrize(
    ("text", "kinds"), [("", ()), ("norm", ("norm",)), ("bias", ("bias",)), (" bias , norm ", ("bias", "norm"))]
)
def test_words_need_no_quotes(text, kinds):
    assert load_config(20, [f"train_cfg.no_decay={text}"]).train_cfg.no_decay == kinds


def test_an_empty_list_of_words_can_be_filled_again():
    """The type of a field is that of its default, not of its present value."""
    emptied = load_config(20, ["train_cfg.no_decay="])
    assert load_config(emptied, ["train_cfg.no_decay=norm"]).train_cfg.no_decay == ("norm",)
    assert load_config(20, ["augment.short_sides=()", "augment.short_sides=96,128"]).augment.short_sides == (96, 128)


def test_the_limits_of_a_range_are_accepted():
    config = load_config(
        0,
        [
            "train_cfg.seed=4294967295",
            "train_cfg.ema_decay=0",
            "train_cfg.warmup_iters=0",
            "train_cfg.milestones=()",
            "target.centre_fraction=0",
            "augment.copy_paste=0.1",
            "augment.mixup=0.2",
            "augment.cutmix=0.7",
        ],
    )
    assert config.train_cfg.milestones == ()


@given(shares=st.lists(st.integers(0, 100), min_size=3, max_size=3))
def test_sum_of_mixing_probabilities_is_at_most_one(shares):
    names = ("copy_paste", "mixup", "cutmix")
    overrides = [f"augment.{name}={share / 100}" for name, share in zip(names, shares)]
    if sum(shares) <= 100:
        load_config(0, overrides)
    else:
        with pytest.raises(InputError, match="augment.copy_paste"):
            load_config(0, overrides)


def test_more_instances_than_candidates_are_refused():
    with pytest.raises(InputError, match="nms.max_per_img=501: expected at most nms.nms_pre=500"):
        load_config(0, ["nms.max_per_img=501"])
    assert load_config(0, ["nms.max_per_img=501", "nms.nms_pre=600"]).nms.max_per_img == 501
    assert load_config(31, ["nms.max_per_img=2000"]).nms.max_per_img == 2000  # has candidates on each level
