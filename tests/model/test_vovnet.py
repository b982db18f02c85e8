"""VoVNetV2: shapes, residual blocks, attention, and the stages that are trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from config import load_config
from model.backbone.build import build_backbone
from model.backbone.vovnet import ESE, STAGE_BLOCKS, OSABlock
from model.neck.fpn import FPNToP7
from tests.support import tiny
from tools.common.kinds import build_network
from tools.train.optimizer import trainable_parameters

SMALL = load_config(tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)
OPTIONS = {"norm": "frozen", "train_norm": True, "trainable": True, "lr_mult": 1.0}


def test_maps_and_pyramid_have_the_right_sizes():
    backbone = build_backbone(SMALL.backbone)
    maps = backbone(paddle.zeros([2, 3, 96, 160]))
    assert [level.shape for level in maps] == [[2, 16, 96 // s, 160 // s] for s in (4, 8, 16, 32)]
    pyramid = FPNToP7(backbone.out_channels[1:], SMALL.neck)(maps[1:])
    assert [level.shape[2:] for level in pyramid] == [[12, 20], [6, 10], [3, 5], [2, 3], [1, 2]]


@pytest.mark.parametrize("depth", STAGE_BLOCKS)
def test_a_depth_is_its_number_of_convolutions(depth):
    """The number in the name counts the 3x3 convolutions of all blocks, one more for each block, and the stem."""
    backbone = build_backbone(replace(SMALL.backbone, depth=depth))
    assert sum(6 * len(stage) for stage in backbone.stages) + len(backbone.stem) == depth


def test_only_later_blocks_add_their_input():
    x = paddle.rand([1, 16, 4, 4])
    for adds, expected in ((True, x.numpy()), (False, 0 * x.numpy())):
        block = OSABlock(16, 8, 16, adds=adds, **OPTIONS)
        block.concat.conv.weight.set_value(paddle.zeros_like(block.concat.conv.weight))
        np.testing.assert_array_equal(block(x), expected)
    assert [[block.adds for block in stage] for stage in build_backbone(SMALL.backbone).stages] == [
        [False],
        [False],
        [False, True],
        [False, True],
    ]


@pytest.mark.parametrize(("bias", "share"), [(-4.0, 0.0), (0.0, 0.5), (1.5, 0.75), (9.0, 1.0)])
def test_attention_over_channels_by_hand(bias, share):
    attention = ESE(3, trainable=True, lr_mult=1.0)
    attention.fc.weight.set_value(paddle.zeros_like(attention.fc.weight))
    attention.fc.bias.set_value(paddle.full_like(attention.fc.bias, bias))
    x = paddle.rand([2, 3, 5, 4])
    np.testing.assert_allclose(attention(x), share * x.numpy(), rtol=1e-6)


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_frozen_stages_are_not_trained(frozen):
    names = trainable_parameters(build_backbone(replace(SMALL.backbone, frozen_stages=frozen, train_norm=True)))
    trained = {index for index in range(4) if any(name.startswith(f"stages.{index}.") for name in names)}
    assert trained == set(range(frozen, 4))
    assert any(name.startswith("stem.") for name in names) == (frozen == 0)


def test_norms_that_are_not_trained():
    names = trainable_parameters(build_backbone(SMALL.backbone))
    assert names and not any(".norm." in name for name in names)


def test_solov2_with_vovnet():
    overrides = [*tiny.OVERRIDES, "backbone.kind=vovnet", "backbone.depth=39", "backbone.stem_channels=8"]
    network = build_network(load_config(tiny.CONFIG, overrides))
    scores, *_ = network(paddle.zeros([1, 3, 64, 64]))
    assert scores.shape[0] == 1
