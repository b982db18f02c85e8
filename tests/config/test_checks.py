"""Every value that makes no sense is refused with its name, whichever field it is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_config, registry
from config.base import Config, known_fields, level_ranges, with_field
from config.checks import check
from config.errors import InputError


def test_every_number_has_a_rule():
    """None takes a value that no field has a use for."""
    for path, value in known_fields(Config).items():
        if isinstance(value, (bool, str)):
            continue
        text = "weights" if path == "train_cfg.no_decay" else "-7"
        if path in ("data.mean", "backbone.deform_stages", "target.scale_ranges"):
            text = "-7,-8,-9,-10,-11"
        with pytest.raises(InputError, match=path):
            load_config(0, [f"{path}={text}"])


@pytest.mark.parametrize("number", sorted(registry()))
def test_the_configs_make_sense(number):
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
        (["augment.short_sides=640,0"], "none below 1"),
        (["augment.short_sides=640.5"], "a list of numbers"),
        (["augment.copy_paste=0.5", "augment.mixup=0.4", "augment.cutmix=0.2"], r"copy_paste.*mixup.*cutmix=1\.1"),
        (["train_cfg.batch_size=0"], "1 or more"),
        (["train_cfg.batch_size=2.5"], "a whole number"),
        (["train_cfg.optimizer=sgd"], "momentum or adam or adamw"),
        (["train_cfg.schedule=step"], "piecewise or cosine"),
        (["train_cfg.milestones=0"], "none below 1"),
        (["train_cfg.no_decay=weights"], "norm, bias, both or none"),
        (["train_cfg.no_decay=norm,weights"], "norm, bias, both or none"),
        (["train_cfg.ema_decay=1"], "below 1"),
        (["train_cfg.precision=fp16"], "fp32 or O1 or O2"),
        (["train_cfg.accumulate=0"], "1 or more"),
        (["train_cfg.keep=0"], "1 or more"),
        (["train_cfg.workers=-1"], "0 or more"),
        (["train_cfg.seed=-1"], "from 0 to"),
        (["train_cfg.seed=4294967296"], "from 0 to"),
        (["shapes.height=63"], "64 or more"),
        (["data.fixed_size=640"], "a height and a width"),
        (["data.fixed_size=640,650"], "multiples of data.size_divisor=32"),
        (["data.fixed_size=0,640"], "multiples of data.size_divisor=32"),
    ],
)
def test_a_value_without_sense_is_one_clear_line(overrides, says):
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
def test_a_value_that_the_parser_gives_up_on_is_refused(text):
    with pytest.raises(InputError, match="expected a whole number"):
        load_config(0, [f"data.short_side={text}"])


@pytest.mark.parametrize(
    ("text", "kinds"), [("", ()), ("norm", ("norm",)), ("bias", ("bias",)), (" bias , norm ", ("bias", "norm"))]
)
def test_words_are_taken_as_they_stand(text, kinds):
    assert load_config(20, [f"train_cfg.no_decay={text}"]).train_cfg.no_decay == kinds


def test_an_empty_list_of_words_can_be_filled_again():
    """Its type does not come from its present value."""
    emptied = load_config(20, ["train_cfg.no_decay="])
    assert load_config(emptied, ["train_cfg.no_decay=norm"]).train_cfg.no_decay == ("norm",)
    assert load_config(20, ["augment.short_sides=()", "augment.short_sides=96,128"]).augment.short_sides == (96, 128)


def test_the_ends_of_a_range_make_sense():
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
def test_probabilities_of_mixing_are_at_most_one_together(shares):
    names = ("copy_paste", "mixup", "cutmix")
    overrides = [f"augment.{name}={share / 100}" for name, share in zip(names, shares)]
    if sum(shares) <= 100:
        load_config(0, overrides)
    else:
        with pytest.raises(InputError, match="augment.copy_paste"):
            load_config(0, overrides)
