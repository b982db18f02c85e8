"""Numbers, names and overrides of configs."""

from __future__ import annotations

import pytest

from config import load_config, registry
from config.base import PROJECT, Config
from config.errors import InputError
from config.overrides import differences

NAMES = {
    0: "solov2_r50_fpn_8gpu_3x",
    1: "solov2_light_448_r50_fpn_8gpu_3x",
    2: "solov2_light_r50_vd_fpn_dcn_512_3x",
    3: "solov2_light_448_r18_fpn_8gpu_3x",
    4: "solov2_light_448_r34_fpn_8gpu_3x",
    5: "solov2_light_512_dcn_r50_fpn_8gpu_3x",
    6: "solov2_r50_fpn_8gpu_1x",
    7: "solov2_r101_fpn_8gpu_3x",
    8: "solov2_r101_dcn_fpn_8gpu_3x",
    9: "solov2_x101_dcn_fpn_8gpu_3x",
    10: "solov2_r101_vd_fpn_3x",
    11: "solov2_r50_enhance",
    12: "solo_r50_fpn_8gpu_1x",
    13: "solo_r50_fpn_8gpu_3x",
    14: "solo_r101_fpn_8gpu_3x",
    15: "decoupled_solo_r50_fpn_8gpu_1x",
    16: "decoupled_solo_r50_fpn_8gpu_3x",
    17: "decoupled_solo_r101_fpn_8gpu_3x",
    18: "decoupled_solo_light_r50_fpn_8gpu_3x",
    19: "decoupled_solo_light_dcn_r50_fpn_8gpu_3x",
    20: "solov2_tiny_shapes",
    22: "solov2_mobilenetv3_fpn_448_3x",
    23: "solov2_r101_vd_fpn_3x_0_5",
    30: "centermask2_v39_ese_fpn_ms_3x",
    31: "centermask2_lite_v39",
    32: "centermask2_v57",
    33: "centermask2_v99",
    34: "centermask2_lite_v19",
    35: "centermask2_lite_v19_slim",
    36: "centermask2_lite_v19_slim_dw",
    37: "centermask2_lite_mobilenetv2",
    38: "centermask2_v39_dcn",
    39: "centermask2_v57_dcn",
    40: "centermask2_v99_dcn",
}


def test_numbers_never_change():
    assert {number: kind.name for number, kind in registry().items() if number in NAMES} == NAMES


@pytest.mark.parametrize("which", [3, "3", NAMES[3], registry()[3]()])
def test_a_config_has_a_number_and_a_name(which):
    config = load_config(which)
    assert (config.number, config.backbone.depth, config.data.short_side) == (3, 18, 448)
    assert config.model_path("test_cfg").name == "solov2_light_448_r18_fpn_8gpu_3x.pdparams"
    assert config.model_path("train_cfg").name == "resnet18_imagenet.pdparams"


def test_an_override_changes_one_field_of_a_copy():
    config = load_config(0, ["nms.score_thr=1", "head.num_grids=9, 8,7,6,5", "demo_input=photos", "backbone.depth=101"])
    assert (config.nms.score_thr, config.head.num_grids, config.demo_input) == (1.0, (9, 8, 7, 6, 5), "photos")
    assert config.backbone.depth == 101
    assert load_config(0).nms == Config.nms
    with pytest.raises(AttributeError):
        config.demo_input = "elsewhere"


@pytest.mark.parametrize("text", ["true", "True", "false"])
def test_true_and_false_are_parsed(text):
    assert load_config(0, [f"head.drop_block={text}"]).head.drop_block is (text.lower() == "true")


@pytest.mark.parametrize(
    ("which", "overrides", "says"),
    [
        ("12345", [], "numbers are 0, 1, 2"),
        ("solov2_r50_fpn_8gpu_3", [], "did you mean solov2_r50_fpn_8gpu_3x"),
        (0, ["nms.score_tr=0.2"], "did you mean nms.score_thr"),
        (0, ["nms.score_thr"], "section.field=value"),
        (0, ["eval_cfg.test_dev_path=a.json"], "no field eval_cfg.test_dev_path.*did you mean test_path"),
        (0, ["eval_cfg.test_dev_pre_path=a"], "no field eval_cfg.test_dev_pre_path.*did you mean test_pre_path"),
        (0, ["nms.nms_pre=many"], "a whole number"),
        (0, ["nms.nms_pre=1.5"], "a whole number"),
        (0, ["nms.score_thr=True"], "a number"),
        (0, ["nms.sigma=1" + "0" * 400], "a number"),
        (0, ["batch_size=4"], "did you mean train_cfg.batch_size or eval_cfg.batch_size or test_cfg.batch_size"),
        (0, ["head.drop_block=1"], "true or false"),
        (0, ["head.num_grids=a,b"], "a list of numbers"),
        (0, ["number=3"], "no field number"),
        (0, ["nms=3"], "no field nms"),
        (0, ["head.num_grids=6,5,4,3,2,1"], "1 to 5 whole numbers"),
        (0, ["head.num_grids=4,2"], "head.strides=.*expected 2 numbers"),
        (0, ["head.num_grids=4,2", "head.strides=8,16"], "target.scale_ranges=.*expected 4 numbers"),
        (0, ["head.channels=100"], "a multiple of head.norm_groups=32"),
        (0, ["nms.kernel=foo"], "gaussian or linear"),
        (0, ["nms.score_thr=1.5"], "from 0 to 1"),
        (0, ["data.size_divisor=1"], "a multiple of 32, 32 to 32768"),
        (0, ["data.std=0,0,0"], "numbers from 1e-6 to 1e6"),
        (0, ["data.stretch=1,99"], r"data.stretch=\(1.0, 99.0\): expected a low and a high percentile from 0 to 100"),
        (0, ["data.stretch=50,50,1"], "a low and a high percentile"),
        (0, ["data.stretch=-1,99,1"], "a low and a high percentile"),
        (0, ["data.stretch=1,101,1"], "a low and a high percentile"),
        (0, ["data.stretch=1,99,0"], "a gamma above 0 and maybe a least range, or"),
        (0, ["data.stretch=1,99,1,-1"], "a low and a high percentile"),
        (0, ["data.stretch=dark"], "a list of numbers"),
        (0, ["test_cfg.batch_size=0"], "1 or more"),
        (3, ["backbone.deform_version=2"], "50 or 101"),
        (0, ["backbone.depth=42"], "18 or 34 or 50 or 101"),
        (0, ["backbone.variant=c"], "b or d"),
        (0, ["backbone.norm=group"], "frozen or batch or sync"),
        (0, ["backbone.kind=vovnet"], "backbone.depth=50: expected 19 or 39 or 57 or 99 with backbone.kind=vovnet"),
        (30, ["backbone.depth=50"], "19 or 39 or 57 or 99"),
        (30, ["backbone.variant=d"], "backbone.variant=d: needs backbone.kind=resnet; this config has vovnet"),
        (30, ["backbone.groups=64"], "backbone.groups=64: needs backbone.kind=resnet; this config has vovnet"),
        (30, ["backbone.base_width=4"], "backbone.base_width=4: needs backbone.kind=resnet; this config has vovnet"),
        (0, ["backbone.depthwise=true"], "backbone.depthwise=True: needs backbone.kind=vovnet; this config has resnet"),
        (0, ["backbone.stage_outputs=8,8,8,8"], "needs backbone.kind=vovnet; this config has resnet"),
        (
            5,
            ["backbone.kind=mobilenetv2", "backbone.depth=53"],
            "backbone.deform_version=1: needs backbone.kind=resnet or vovnet; this config has mobilenetv2",
        ),
        (0, ["backbone.kind=mobilenetv2"], "expected 53 with backbone.kind=mobilenetv2"),
        (
            30,
            ["backbone.depthwise=true", "backbone.deform_version=2"],
            "backbone.depthwise=true: expected false with backbone.deform_version=2",
        ),
        (30, ["target.scale_ranges=0,10,10,20"], "expected 10 numbers for the 5 levels of head.kind=centermask2"),
        (30, ["roi.size=7"], "an even number"),
        (30, ["data.normalize_first=true"], "data.resize_by=pillow: expected size or factor"),
    ],
)
def test_a_mistake_is_reported_in_one_line(which, overrides, says):
    with pytest.raises(InputError, match=says) as error:
        load_config(which, overrides)
    assert "\n" not in str(error.value)


def test_a_class_list_belongs_to_the_data_set_by_the_same_config():
    class Mine(Config):
        """A config with other data and no class list."""

        number = 100
        train_path = "mine.json"

    class Listed(Mine):
        """A config with other data and its class list."""

        number = 101
        classes_path = "mine.txt"

    assert load_config(0).lists_its_classes and load_config(20).lists_its_classes
    assert not load_config(0, ["train_path=mine.json"]).lists_its_classes
    assert load_config(0, ["train_path=mine.json", "classes_path=mine.txt"]).lists_its_classes
    assert not Mine().lists_its_classes
    assert Listed().lists_its_classes
    assert not load_config(Listed(), ["train_path=other.json"]).lists_its_classes


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train_cfg.batch_size=4", "train_path=mine.json"),
        ("data.short_side=640", "data.mean=1,2,3.5", "head.num_grids=20,10,5,4,3", "nms.kernel=linear"),
        ("data.stretch=1,99.8,0.7",),
        ("backbone.deform_stages=()", "backbone.lr_mults=1,1,0.5,0.25", "head.drop_block=true"),
    ],
)
def test_differences_restore_a_changed_config(overrides):
    changed = load_config(11, overrides)
    found = differences(changed)
    assert [text for text in found if text.startswith("train")] == []
    restored = load_config(11, found)
    for section in ("backbone", "neck", "mask_feat_head", "head", "nms", "data"):
        assert getattr(restored, section) == getattr(changed, section)


def test_a_derived_config_has_no_published_checkpoint():
    class Mine(registry()[0]):
        number = 100

    assert registry()[0].published and not Mine.published


@pytest.mark.parametrize("text", ["{foo}", "{", "a}/{}", "{name.number}", "{0}", "{backbone!x}"])
def test_other_braces_are_part_of_a_path(text):
    assert load_config(20, [f"test_cfg.model_path={text}"]).model_path("test_cfg") == PROJECT / text
