"""What is written once for arrays of numpy and tensors of Paddle."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import paddle
from hypothesis import given
from hypothesis import strategies as st

from model import arrays
from model.arrays import joined, packed, tiles_of


@given(columns=st.integers(1, 1000), width=st.integers(1, 1200), threads=st.integers(1, 9))
def test_tiles_are_all_columns_in_equal_pieces_for_all_threads(columns, width, threads):
    matrix = np.arange(2 * columns).reshape(2, columns)
    with patch.object(arrays, "CPU_THREADS", threads):
        tiles = tiles_of(matrix, width)
    np.testing.assert_array_equal(np.concatenate(tiles, axis=1), matrix)
    widths = [tile.shape[1] for tile in tiles]
    assert min(widths) >= 1 and max(widths) < min(width, min(widths)) + 16  # up to multiples of 8
    assert len(tiles) % threads == 0 or columns < 8 * len(tiles) + 8 * threads


@given(columns=st.integers(1, 200), width=st.integers(1, 50), threads=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_bits_of_tiles_are_those_of_the_whole(columns, width, threads, seed):
    inside = np.random.default_rng(seed).random((3, columns)) < 0.5
    with patch.object(arrays, "CPU_THREADS", threads):
        tiles = tiles_of(inside, width)
    np.testing.assert_array_equal(joined([packed(tile) for tile in tiles], axis=1), packed(inside))
    np.testing.assert_array_equal(packed(paddle.to_tensor(inside)).numpy(), inside)


def test_a_tensor_is_one_tile():
    tensor = paddle.ones([2, 10])
    assert tiles_of(tensor, 3) == [tensor]
