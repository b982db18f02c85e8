"""MobileNetV2: its size, inverted residuals, and a network with it."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from config import load_config
from config.networks import BackboneConfig
from convert.conversion import backbone_shapes
from model.backbone.mobilenetv2 import InvertedResidual
from tests.support import tiny
from tools.common.kinds import build_network

CONFIG = BackboneConfig(kind="mobilenetv2", depth=53, frozen_stages=0)
OPTIONS = {"norm": "frozen", "train_norm": True, "trainable": True, "lr_mult": 1.0}


def test_size_of_the_published_backbone():
    """With the classifier's 1x1 convolution and the fully connected layer it has the 53 layers of its depth."""
    shapes = backbone_shapes(CONFIG)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 1_843_264
    assert sum(len(shape) == 4 for shape in shapes.values()) == CONFIG.depth - 2


@pytest.mark.parametrize(
    ("outputs", "stride", "adds"), [(8, 1, True), (8, 2, False), (16, 1, False)], ids=["same", "strided", "wider"]
)
def test_a_block_adds_its_input_if_the_shapes_are_equal(outputs, stride, adds):
    block = InvertedResidual(8, outputs, expansion=6, stride=stride, **OPTIONS)
    block.project.conv.weight.set_value(paddle.zeros_like(block.project.conv.weight))
    x = paddle.randn([1, 8, 6, 6])
    found = block(x)
    assert found.shape == [1, outputs, 6 // stride, 6 // stride]
    np.testing.assert_array_equal(found, x if adds else paddle.zeros_like(found))


def test_activations_end_at_6_and_the_last_convolution_has_none():
    block = InvertedResidual(8, 8, expansion=1, stride=1, **OPTIONS)
    assert block.expand is None
    wide = block.depthwise(100 * paddle.randn([1, 8, 6, 6]))
    assert float(wide.min()) == 0 and float(wide.max()) == 6
    assert float(block.project(wide).min()) < 0


def test_solov2_with_mobilenetv2():
    overrides = [*tiny.OVERRIDES, *tiny.FULL_WIDTH, "backbone.kind=mobilenetv2", "backbone.depth=53"]
    network = build_network(load_config(tiny.CONFIG, overrides))
    scores, *_ = network(paddle.zeros([1, 3, 64, 64]))
    assert scores.shape[0] == 1
