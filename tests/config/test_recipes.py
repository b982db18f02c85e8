"""The configs of the original SOLO train as its own configs say: every field that those state is compared."""

from __future__ import annotations

import json

import pytest

from config import load_config
from config.base import Config, level_ranges
from model.backbone.build import build_backbone
from tests.support.parity import SHARED

RECIPES = SHARED / "reference" / "solo_recipes.json"
pytestmark = pytest.mark.skipif(not RECIPES.is_file(), reason=f"the original recipes are not in {RECIPES}")
NAMES = (
    *(f"solov2_light_448_{depth}_fpn_8gpu_3x" for depth in ("r18", "r34", "r50")),
    *(f"{kind}_{rest}" for kind in ("solo", "decoupled_solo") for rest in ("r50_fpn_8gpu_1x", "r50_fpn_8gpu_3x")),
    *(f"solov2_{rest}" for rest in ("r50_fpn_8gpu_1x", "r50_fpn_8gpu_3x", "r101_fpn_8gpu_3x", "r101_dcn_fpn_8gpu_3x")),
    *("solo_r101_fpn_8gpu_3x", "decoupled_solo_r101_fpn_8gpu_3x", "solov2_x101_dcn_fpn_8gpu_3x"),
    *("solov2_light_512_dcn_r50_fpn_8gpu_3x",),
    *(f"decoupled_solo_light_{rest}" for rest in ("r50_fpn_8gpu_3x", "dcn_r50_fpn_8gpu_3x")),
)
TYPES = {"solov2": "SOLOv2", "solo": "SOLO", "decoupled_solo": "DecoupledSOLO"}
DEFORM_TYPES = {1: "DCN", 2: "DCNv2"}


def recipes() -> dict[str, dict]:
    return json.loads(RECIPES.read_text())


def backbone_of(config: Config) -> dict:
    backbone = config.backbone
    assert (backbone.kind, backbone.variant, backbone.norm, backbone.train_norm) == ("resnet", "b", "frozen", True)
    assert backbone.lr_mults == (1.0, 1.0, 1.0, 1.0)
    recipe: dict = {
        "type": "ResNeXt" if backbone.groups > 1 else "ResNet",
        "depth": backbone.depth,
        "num_stages": 4,
        "out_indices": [0, 1, 2, 3],
        "frozen_stages": backbone.frozen_stages,
        "style": "pytorch",
    }
    if backbone.groups > 1:
        recipe.update(groups=backbone.groups, base_width=backbone.base_width)
    if backbone.deform_version:
        kind = {"type": DEFORM_TYPES[backbone.deform_version], "deformable_groups": 1, "fallback_on_stride": False}
        recipe.update(dcn=kind, stage_with_dcn=[stage in backbone.deform_stages for stage in (1, 2, 3, 4)])
    return recipe


def head_of(config: Config) -> dict:
    head, solov2 = config.head, config.head.kind == "solov2"
    light = head.shared_tower or (solov2 and head.deform_version and not head.deform_all)
    recipe = {
        "type": f"{TYPES[head.kind]}{'Light' if light else ''}Head",
        "num_classes": config.num_classes + 1,  # with the background
        "in_channels": config.neck.out_channels,
        "stacked_convs": head.stacked_convs,
        "seg_feat_channels": head.channels,
        "strides": list(head.strides),
        "scale_ranges": [list(ends) for ends in level_ranges(config.target.scale_ranges)],
        "sigma": config.target.centre_fraction,
        "num_grids": list(head.num_grids),
        "loss_ins": {"type": "DiceLoss", "use_sigmoid": True, "loss_weight": config.loss.dice_weight},
        "loss_cate": {
            "type": "FocalLoss",
            "use_sigmoid": True,
            "gamma": config.loss.focal_gamma,
            "alpha": config.loss.focal_alpha,
            "loss_weight": 1.0,
        },
    }
    recipe.update({"ins_out_channels": config.mask_feat_head.out_channels} if solov2 else {"cate_down_pos": 0})
    if head.deform_version:
        recipe.update(use_dcn_in_tower=True, type_dcn=DEFORM_TYPES[head.deform_version])
    assert not head.deform_bias and not head.drop_block and config.target.box_border == 1
    assert config.target.min_area == (1 if solov2 else 10)  # in its code
    return recipe


def mask_feat_head_of(config: Config) -> dict | None:
    if config.head.kind != "solov2":
        return None
    branch = config.mask_feat_head
    recipe: dict = {
        "type": "MaskFeatHead",
        "in_channels": config.neck.out_channels,
        "out_channels": branch.mid_channels,
        "start_level": 0,
        "end_level": 3,
        "num_classes": branch.out_channels,
        "norm_cfg": {"type": "GN", "num_groups": branch.norm_groups, "requires_grad": True},
    }
    if branch.deform_version:
        recipe["conv_cfg"] = {"type": DEFORM_TYPES[branch.deform_version]}
    return recipe


def resize_of(config: Config) -> dict:
    sides, long_side = config.augment.short_sides, config.data.long_side
    assert config.data.resize_by == "size" and not config.augment.side_by_epoch
    if not sides:
        return {"type": "Resize", "img_scale": [long_side, config.data.short_side], "keep_ratio": True}
    scales = [[long_side, side] for side in sorted(sides, reverse=True)]
    return {"type": "Resize", "img_scale": scales, "multiscale_mode": "value", "keep_ratio": True}


def training_of(config: Config) -> dict:
    train = config.train_cfg
    assert (train.optimizer, train.schedule, train.gamma, train.ema_decay) == ("momentum", "piecewise", 0.1, 0.0)
    assert (train.no_decay, train.fast_biases, train.backbone_decay) == ((), (), 1.0)  # all parameters alike
    assert (train.lr_batch, train.autoscale_lr, train.accumulate, train.precision) == (16, True, 1, "fp32")
    return {
        "optimizer": {"type": "SGD", "lr": train.lr, "momentum": train.momentum, "weight_decay": train.weight_decay},
        "optimizer_config": {"grad_clip": {"max_norm": train.clip_norm, "norm_type": 2}},
        "lr_config": {
            "policy": "step",
            "step": list(train.milestones),
            "warmup": "linear",
            "warmup_iters": train.warmup_iters,
            "warmup_ratio": train.warmup_factor,
        },
        "epochs": train.epochs,
        "imgs_per_gpu": train.batch_size,
        "fp16": None,
        "pretrained": pretrained_of(config),
    }


def pretrained_of(config: Config) -> str:
    assert config.train_cfg.model_path == "weights/{backbone}_imagenet.pdparams"
    name = config.backbone.name
    return f"open-mmlab://{name}" if config.backbone.groups > 1 else f"torchvision://{name}"


def transforms_of(config: Config) -> list[str]:
    """Return the steps of the original's training pipeline; augmentations it does not have must be off."""
    augment = config.augment
    chances = ("copy_paste", "mixup", "cutmix", "distort", "crop", "flip_vertical", "turn")
    assert not any(getattr(augment, name) for name in chances)
    steps = ["LoadImageFromFile", "LoadAnnotations", "Resize", "RandomFlip", "Normalize", "Pad"]
    return [*steps, "DefaultFormatBundle", "Collect"]


def recipe_of(config: Config) -> dict:
    """Return what a config of the original program states, from the values of ours."""
    nms, data = config.nms, config.data
    assert not data.bgr and not data.normalize_first
    fields = ("score_thr", "mask_thr", "nms_pre", "kernel", "sigma", "update_thr", "max_per_img")
    return {
        "backbone": backbone_of(config),
        "neck": {
            "type": "FPN",
            "in_channels": list(build_backbone(config.backbone).out_channels),
            "out_channels": config.neck.out_channels,
            "start_level": 0,
            "num_outs": 5,
        },
        "bbox_head": head_of(config),
        "mask_feat_head": mask_feat_head_of(config),
        "test_cfg": {field: getattr(nms, field) for field in fields},
        "img_norm": {"mean": list(data.mean), "std": list(data.std), "to_rgb": True},
        "pad": data.size_divisor,
        "flip": config.augment.flip,
        "resize": resize_of(config),
        "test_scale": [data.long_side, data.short_side],
        "train_transforms": transforms_of(config),
        **training_of(config),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_recipe(name):
    recorded = recipes()[name]
    recorded.pop("workers")  # how many processes read pictures changes no number
    recorded["bbox_head"].pop("with_deform", None)  # always false; use_dcn_in_tower says what is deformable
    assert recipe_of(load_config(name)) == recorded


def test_all_recipes_are_compared():
    assert sorted(recipes()) == sorted(NAMES)
