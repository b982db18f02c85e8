"""VoVNetV2: shapes, residual blocks, attention, and the stages that are trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from config import load_config
from config.networks import SLIM_WIDTHS
from convert.conversion import backbone_shapes
from model.backbone.build import build_backbone
from model.backbone.vovnet import ESE, STAGE_BLOCKS, OSABlock
from model.neck.fpn import FPNToP7
from tests.support import tiny
from tools.common.kinds import build_network
from tools.train.optimizer import trainable_parameters

SMALL = load_config(tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)
VOVNET39 = load_config(30).backbone
OPTIONS = {"norm": "frozen", "train_norm": True, "trainable": True, "lr_mult": 1.0}


def build_small(**options):
    return build_backbone(replace(SMALL.backbone, **options))


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
    blocks = [block for stage in backbone.stages for block in stage]
    assert sum(len(block.chain) + 1 for block in blocks) + len(backbone.stem) == depth


# Parameters and statistics of the published backbones.
SIZES = {
    "vovnet19_ese": 10_190_272,
    "vovnet19_ese_slim": 2_658_288,
    "vovnet19_ese_slim_dw": 1_390_352,
    "vovnet39_ese": 25_204_544,
}


@pytest.mark.parametrize(
    "config",
    [
        replace(VOVNET39, depth=19),
        replace(VOVNET39, depth=19, stage_channels=SLIM_WIDTHS, stage_outputs=(112, 256, 384, 512)),
        replace(VOVNET39, depth=19, stage_channels=SLIM_WIDTHS, stage_outputs=(112, 256, 384, 512), depthwise=True),
        VOVNET39,
    ],
    ids=lambda config: config.name,
)
def test_size_of_a_published_backbone(config):
    shapes = backbone_shapes(config).values()
    assert sum(int(np.prod(shape)) for shape in shapes) == SIZES[config.name]


def test_deformable_backbone_of_the_same_imagenet_checkpoint():
    config = replace(VOVNET39, deform_version=2, deform_stages=(2, 3, 4))
    shapes = backbone_shapes(config)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 26_978_147
    offsets = [name for name in shapes if name.endswith(".offset.weight")]
    assert len(offsets) == 5 * (1 + 2 + 2) and not any(".stages.0." in name for name in offsets)
    assert all(shapes[name][0] == 27 for name in offsets)
    assert config.name == VOVNET39.name
    assert backbone_shapes(VOVNET39).keys() == {name for name in shapes if ".offset." not in name}


def test_depthwise_block_brings_its_input_to_the_width_of_its_chain():
    x = paddle.rand([1, 16, 6, 6])
    narrower, equal = (OSABlock(16, w, 16, layers=3, adds=False, depthwise=True, **OPTIONS) for w in (8, 16))
    assert narrower.reduction.conv.weight.shape == [8, 16, 1, 1] and equal.reduction is None
    assert [layer.depthwise.weight.shape for layer in narrower.chain] == [[8, 1, 3, 3]] * 3
    assert narrower.concat.conv.weight.shape == [16, 16 + 3 * 8, 1, 1]  # the input as it was
    assert narrower(x).shape == equal(x).shape == x.shape


def test_depthwise_stem_ends_narrower_and_begins_with_an_ordinary_convolution():
    shapes = {name: tuple(value.shape) for name, value in build_small(depthwise=True).stem.state_dict().items()}
    kernels = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    assert kernels == {
        "0.conv.weight": (8, 3, 3, 3),
        "1.depthwise.weight": (8, 1, 3, 3),
        "1.pointwise.conv.weight": (8, 8, 1, 1),
        "2.depthwise.weight": (8, 1, 3, 3),
        "2.pointwise.conv.weight": (8, 8, 1, 1),
    }
    assert [layer.conv.weight.shape[0] for layer in build_small().stem] == [8, 8, 16]


@pytest.mark.parametrize("options", [{"depthwise": True}, {"deform_version": 2, "deform_stages": (2, 3, 4)}])
def test_every_parameter_of_a_variant_is_trained(options):
    backbone = build_small(**options, frozen_stages=0, train_norm=True)
    sum(level.sum() for level in backbone(paddle.rand([1, 3, 64, 64]))).backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in trainable_parameters(backbone).values())
    frozen = trainable_parameters(build_small(**options, frozen_stages=4))
    assert not frozen


def test_only_later_blocks_add_their_input():
    x = paddle.rand([1, 16, 4, 4])
    for adds, expected in ((True, x.numpy()), (False, 0 * x.numpy())):
        block = OSABlock(16, 8, 16, layers=5, adds=adds, **OPTIONS)
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
