"""Operations of a network, counted by hand."""

from __future__ import annotations

import paddle
from paddle import nn

from config import load_config
from model.layers import DeformConv2D
from tests.support import tiny
from tools.common.kinds import build_network
from tools.engine.operations import count_operations, measured_peak, network_operations


def test_multiplications_and_additions_of_convolutions():
    network = nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2, padding=1),  # 8 x 16 x 5 outputs of 27 products
        nn.ReLU(),
        nn.Conv2D(8, 4, 1, groups=2),  # 4 x 16 x 5 of 4
        DeformConv2D(4, 6, 3, version=2),  # 6 x 16 x 5 of 36, and 27 x 16 x 5 of 36 for its offsets
    )
    places = 16 * 5
    assert count_operations(network, paddle.zeros([1, 3, 32, 10])) == 2 * places * (8 * 27 + 4 * 4 + 6 * 36 + 27 * 36)
    assert not network[0]._forward_post_hooks
    assert network(paddle.ones([1, 3, 32, 10])).shape == [1, 6, 16, 5]


def test_boxes_count_too():
    """As many as may be found: the part behind RoIAlign is a good share of the whole."""
    config = load_config(tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)
    configs = [load_config(config, [f"nms.max_per_img={boxes}"]) for boxes in (1, 3)]
    few, many = (network_operations(build_network(config), config, 64, 64) for config in configs)
    side, width, inputs = 14 * 14, 8, 16
    mask = 2 * side * (9 * inputs * width + 9 * 2 + 4 * width * width + 4 * width * 80)
    iou = 2 * (49 * 9 * (inputs + 1) * width + 49 * width * 16 + 16 * 16 + 16 * 80)
    assert (many - few) == 2 * (mask + iou)


def test_the_peak_is_one_of_a_processor():
    assert 1e8 < measured_peak("fp32") < 1e14
