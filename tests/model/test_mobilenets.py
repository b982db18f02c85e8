"""MobileNetV2 and MobileNetV3 give maps of the right sizes, and train the stages that the config names."""

from __future__ import annotations

from dataclasses import replace

import paddle
import pytest

from config.networks import DEPTHS, BackboneConfig
from model.backbone.build import build_backbone
from tools.train.optimizer import trainable_parameters

CHANNELS = {"mobilenetv2": (24, 32, 96, 320), "mobilenetv3": (72, 240, 672, 960)}
CONFIGS = {kind: BackboneConfig(kind=kind, depth=DEPTHS[kind][0], frozen_stages=0) for kind in CHANNELS}


@pytest.mark.parametrize("kind", CHANNELS)
def test_maps_have_the_right_sizes(kind):
    backbone, channels = build_backbone(CONFIGS[kind]), CHANNELS[kind]
    maps = backbone(paddle.zeros([2, 3, 64, 96]))
    assert backbone.out_channels == channels
    assert [level.shape for level in maps] == [[2, c, 64 // s, 96 // s] for c, s in zip(channels, (4, 8, 16, 32))]
    assert CONFIGS[kind].name == kind


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_frozen_stages_are_not_trained(kind, frozen):
    names = trainable_parameters(build_backbone(replace(CONFIGS[kind], frozen_stages=frozen)))
    trained = {index for index in range(4) if any(name.startswith(f"stages.{index}.") for name in names)}
    assert trained == set(range(frozen, 4))
    assert any(name.startswith("stem.") for name in names) == (frozen == 0)


@pytest.mark.parametrize("kind", CHANNELS)
def test_norms_that_are_not_trained(kind):
    names = trainable_parameters(build_backbone(replace(CONFIGS[kind], train_norm=False)))
    assert names and not any(".norm." in name for name in names)


@pytest.mark.parametrize("kind", CHANNELS)
def test_multipliers_of_the_stages(kind):
    """The stem has that of the first stage, a last convolution that of the last."""
    parameters = trainable_parameters(build_backbone(replace(CONFIGS[kind], lr_mults=(0.1, 0.2, 0.3, 0.4))))
    expected = {"stages.0.": 0.1, "stages.1.": 0.2, "stages.2.": 0.3, "stages.3.": 0.4, "stem.": 0.1, "last.": 0.4}
    for name, parameter in parameters.items():
        rate = next(value for prefix, value in expected.items() if name.startswith(prefix))
        assert parameter.optimize_attr["learning_rate"] == rate, name
