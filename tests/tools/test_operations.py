"""Operations of a network, counted by hand."""

from __future__ import annotations

import paddle
from paddle import nn

from model.layers import DeformConv2D
from tools.operations import count_operations, measured_peak


def test_multiplications_and_additions_of_convolutions():
    network = nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2, padding=1),  # 8 x 16 x 5 outputs of 27 products
        nn.ReLU(),
        nn.Conv2D(8, 4, 1, groups=2),  # 4 x 16 x 5 of 4
        DeformConv2D(4, 6, 3, version=2),  # 6 x 16 x 5 of 36, and 27 x 16 x 5 of 36 for its offsets
    )
    places = 16 * 5
    assert count_operations(network, 32, 10) == 2 * places * (8 * 27 + 4 * 4 + 6 * 36 + 27 * 36)
    assert not network[0]._forward_post_hooks
    assert network(paddle.ones([1, 3, 32, 10])).shape == [1, 6, 16, 5]


def test_the_peak_is_one_of_a_processor():
    assert 1e8 < measured_peak("fp32") < 1e14
