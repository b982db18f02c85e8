"""The configs that train as PaddleDetection does: what 0.5 and 2.x state for the networks of the same names."""

from __future__ import annotations

import pytest

from config import load_config
from config.base import PPDET_TRAINING
from model.backbone.build import build_backbone
from tools.train.optimizer import trainable_parameters


def test_the_plain_recipe():
    assert (PPDET_TRAINING.warmup_iters, PPDET_TRAINING.warmup_factor, PPDET_TRAINING.clip_norm) == (1000, 0.0, 0.0)
    assert (PPDET_TRAINING.epochs, PPDET_TRAINING.milestones, PPDET_TRAINING.ema_decay) == (36, (24, 33), 0.0)
    assert (PPDET_TRAINING.lr, PPDET_TRAINING.weight_decay, PPDET_TRAINING.no_decay) == (0.01, 0.0001, ("norm",))


@pytest.mark.parametrize(("number", "sides"), [(2, (352, 512)), (22, (352, 512))])
def test_colours_of_0_5_turn_to_any_hue_and_keep_their_brightness(number, sides):
    augment = load_config(number).augment
    assert (augment.distort, augment.distort_brightness, augment.distort_hue) == (0.5, 0.0, 180.0)
    assert (augment.distort_contrast, augment.distort_saturation, augment.crop, augment.flip) == (0.5, 0.5, 1.0, 0.5)
    assert (min(augment.short_sides), max(augment.short_sides)) == sides


@pytest.mark.parametrize(("number", "frozen", "border", "biases"), [(2, 0, 1, ("head", "neck")), (11, 1, 0, ("head",))])
def test_freeze_at_0_freezes_nothing_in_0_5_and_a_stage_in_2(number, frozen, border, biases):
    config = load_config(number)
    assert (config.backbone.frozen_stages, config.target.box_border) == (frozen, border)
    assert (config.train_cfg.fast_biases, config.train_cfg.ema_decay) == (biases, 0.9998)
    rates = {
        name.partition(".conv.")[0].rpartition(".")[0]: parameter.optimize_attr["learning_rate"]
        for name, parameter in trainable_parameters(build_backbone(config.backbone)).items()
        if ".offset." not in name
    }
    by_stage = [{rate for name, rate in rates.items() if name.startswith(f"stages.{stage}")} for stage in range(4)]
    assert by_stage == [{0.05} if frozen == 0 else set(), {0.05}, {0.1}, {0.15}]
    assert {rate for name, rate in rates.items() if name.startswith("stem")} == ({0.05} if frozen == 0 else set())


def test_the_recipe_of_mobilenetv3_is_that_of_0_5():
    """The facts of solov2_mobilenetv3_fpn_448_3x.yml and its reader, for 8 cards of 4 pictures."""
    config = load_config(22)
    recipe, target, head = config.train_cfg, config.target, config.head
    pictures = 8 * recipe.batch_size
    assert (pictures, recipe.lr * pictures / recipe.lr_batch) == (32, pytest.approx(0.02))
    assert (recipe.epochs, recipe.milestones, recipe.gamma, recipe.ema_decay) == (36, (24, 33), 0.1, 0.9998)
    assert (recipe.warmup_iters, recipe.warmup_factor, recipe.momentum, recipe.clip_norm) == (1000, 0.0, 0.9, 0.0)
    assert (recipe.weight_decay, recipe.weight_decay * recipe.backbone_decay) == (1e-4, pytest.approx(1e-5))
    assert (recipe.no_decay, recipe.fast_biases) == (("norm",), ("neck",))
    backbone = config.backbone
    assert (backbone.norm, backbone.train_norm, backbone.frozen_stages) == ("frozen", False, 0)
    assert backbone.lr_mults == (0.25, 0.25, 0.5, 0.75)
    assert (target.box_border, target.skip_empty_masks, target.soft_masks, target.centre_fraction) == (
        1,
        True,
        False,
        0.2,
    )
    assert target.scale_ranges == (1, 56, 28, 112, 56, 224, 112, 448, 224, 896)
    assert (head.channels, head.stacked_convs, head.num_grids, head.drop_block) == (256, 2, (40, 36, 24, 16, 12), True)
    assert (config.mask_feat_head.mid_channels, config.mask_feat_head.out_channels) == (128, 128)
    assert config.augment.short_sides == (352, 384, 416, 448, 480, 512)
    assert (config.data.short_side, config.data.long_side, config.data.crop_masks) == (448, 768, "truncated")
    assert (config.nms.score_thr, config.nms.nms_pre, config.nms.max_per_img) == (0.1, 500, 100)
    assert (config.nms.mask_thr, config.nms.update_thr, config.nms.kernel, config.nms.sigma) == (
        0.5,
        0.05,
        "gaussian",
        2,
    )
    assert (config.loss.dice_weight, config.loss.focal_gamma, config.loss.focal_alpha) == (3.0, 2.0, 0.25)
