"""ResNet: number of parameters, shapes, and the stages that are trained."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from config.base import BackboneConfig
from model.backbone.resnet import ResNet
from model.layers import DeformConv2D

# Parameters of torchvision's and timm's classifiers without their last layer (513,000 or 2,049,000).
KNOWN_SIZES = [
    (BackboneConfig(depth=18), 11_689_512 - 513_000),
    (BackboneConfig(depth=34), 21_797_672 - 513_000),
    (BackboneConfig(depth=50), 25_557_032 - 2_049_000),
    (BackboneConfig(depth=50, variant="d"), 25_576_264 - 2_049_000),
    (BackboneConfig(depth=101), 44_549_160 - 2_049_000),
    (BackboneConfig(depth=101, groups=64, base_width=4), 83_455_272 - 2_049_000),
]


def parameters(layer: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Return parameters by name, without the running statistics, which Paddle counts as parameters."""
    return {name: p for name, p in layer.named_parameters() if not name.endswith(("._mean", "._variance"))}


def build_uninitialized(config: BackboneConfig) -> ResNet:
    """Build a network without initializing its weights, which saves time."""
    with paddle.LazyGuard():
        return ResNet(config)


def trained_parts(network: ResNet) -> set[str]:
    """Return "stem" and the numbers of the stages that have a trained parameter."""
    names = [name for name, parameter in parameters(network).items() if parameter.trainable]
    return {"stem" if name.startswith("stem") else str(int(name.split(".")[1]) + 1) for name in names}


@pytest.mark.parametrize(("config", "size"), KNOWN_SIZES)
def test_known_numbers_of_parameters(config, size):
    assert sum(int(np.prod(p.shape)) for p in parameters(build_uninitialized(config)).values()) == size


@pytest.mark.parametrize("config", [KNOWN_SIZES[0][0], KNOWN_SIZES[3][0]])
def test_maps_at_strides_4_to_32(config):
    network = ResNet(config)
    network.eval()
    with paddle.no_grad():
        maps = network(paddle.zeros([2, 3, 64, 96]))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(x.shape) for x in maps] == [(2, c, *size) for c, size in zip(network.out_channels, sizes)]


@pytest.mark.parametrize(
    ("frozen_stages", "trained"),
    [(0, {"stem", "1", "2", "3", "4"}), (1, {"2", "3", "4"}), (2, {"3", "4"}), (4, set())],
)
@pytest.mark.parametrize("variant", ["b", "d"])
def test_frozen_stages_have_nothing_to_train(variant, frozen_stages, trained):
    assert trained_parts(build_uninitialized(BackboneConfig(variant=variant, frozen_stages=frozen_stages))) == trained


def test_gradients_reach_what_is_trained_and_nothing_else():
    network = ResNet(BackboneConfig(depth=18, frozen_stages=2))
    network.train()
    sum(x.mean() for x in network(paddle.rand([1, 3, 32, 32]))).backward()
    for name, parameter in parameters(network).items():
        assert (parameter.grad is not None) == name.startswith(("stages.2.", "stages.3.")), name


def test_a_frozen_norm_makes_training_equal_evaluation():
    paddle.seed(0)
    network = ResNet(BackboneConfig(depth=18))
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    x = paddle.rand([2, 3, 32, 64])
    with paddle.no_grad():
        network.train()
        training = network(x)
        network.eval()
        evaluation = network(x)
    assert all((a == b).all() for a, b in zip(training, evaluation))
    assert all((before[name] == value.numpy()).all() for name, value in network.state_dict().items())


@pytest.mark.parametrize("norm", ["batch", "sync"])
def test_another_norm_learns_the_statistics_of_all_stages(norm):
    network = ResNet(BackboneConfig(depth=18, norm=norm))
    network.train()
    with paddle.no_grad():
        network(paddle.rand([2, 3, 64, 64]))
    assert all(value.abs().sum() > 0 for name, value in network.state_dict().items() if name.endswith("._mean"))


def test_learning_rate_multipliers_reach_their_stages():
    network = build_uninitialized(
        BackboneConfig(depth=50, deform_version=2, deform_stages=(3,), lr_mults=(0.1, 0.2, 0.3, 0.4))
    )
    for name, parameter in parameters(network).items():
        multiplier = parameter.optimize_attr["learning_rate"]
        if name.startswith("stem"):
            assert multiplier == 0.1
        elif ".offset." not in name:
            assert multiplier == pytest.approx((int(name.split(".")[1]) + 1) / 10), name


@pytest.mark.parametrize(
    ("version", "stages", "found"), [(2, (2, 4), {"1", "3"}), (1, (3,), {"2"}), (0, (2, 3), set()), (2, (), set())]
)
def test_deformable_convolutions_are_the_3x3_of_their_stages(version, stages, found):
    network = build_uninitialized(BackboneConfig(depth=50, deform_version=version, deform_stages=stages))
    names = [name for name, layer in network.named_sublayers() if isinstance(layer, DeformConv2D)]
    assert {name.split(".")[1] for name in names} == found
    assert all(name.endswith(".conv2.conv") for name in names)
    assert len(names) == sum((3, 4, 6, 3)[int(stage)] for stage in found)


def test_frozen_deformable_stages_have_nothing_to_train():
    network = ResNet(BackboneConfig(frozen_stages=2, deform_version=2, deform_stages=(2,)))
    assert not [name for name, p in network.stages[1].named_parameters() if p.trainable and ".norm._" not in name]
