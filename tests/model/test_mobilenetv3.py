"""MobileNetV3: its size, attention, and inverted residuals."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from config.networks import BackboneConfig
from convert.conversion import backbone_shapes
from model.backbone.mobilenetv3 import BlockShape, InvertedResidual, SqueezeExcitation

CONFIG = BackboneConfig(kind="mobilenetv3", depth=49, frozen_stages=0)
OPTIONS = {"norm": "frozen", "train_norm": True, "trainable": True, "lr_mult": 1.0}


def test_size_of_the_published_backbone():
    """With the classifier's two layers it has the 49 convolutions of its depth, those of the attention aside."""
    shapes = backbone_shapes(CONFIG)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 2_970_406 + 24_432
    assert sum(len(shape) == 4 and ".attention." not in name for name, shape in shapes.items()) == CONFIG.depth - 2
    assert sum(".attention.squeeze.weight" in name for name in shapes) == 8


def test_attention_is_a_hard_sigmoid_of_slope_a_fifth():
    layer = SqueezeExcitation(4, trainable=True, lr_mult=1.0)
    layer.excite.weight.set_value(paddle.zeros_like(layer.excite.weight))
    layer.excite.bias.set_value(paddle.to_tensor([-3.0, 0.0, 1.0, 3.0]))
    found = layer(paddle.ones([1, 4, 2, 2]))[0, :, 0, 0]
    np.testing.assert_allclose(found, [0.0, 0.5, 0.7, 1.0], atol=1e-6)


@pytest.mark.parametrize(("outputs", "stride", "adds"), [(8, 1, True), (8, 2, False), (16, 1, False)])
def test_a_block_adds_its_input_if_the_shapes_are_equal(outputs, stride, adds):
    shape = BlockShape(3, 24, outputs, attention=True, hard_swish=True)
    block = InvertedResidual(8, shape, stride=stride, **OPTIONS)
    block.project.conv.weight.set_value(paddle.zeros_like(block.project.conv.weight))
    x = paddle.randn([1, 8, 6, 6])
    found, expanded = block(x)
    assert (found.shape, expanded.shape) == ([1, outputs, 6 // stride, 6 // stride], [1, 24, 6, 6])
    np.testing.assert_array_equal(found, x if adds else paddle.zeros_like(found))
