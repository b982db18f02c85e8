"""What is written once for arrays of numpy and tensors of Paddle."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import paddle
from hypothesis import given
from hypothesis import strategies as st

from model import arrays
from model.arrays import tiles_of


@given(columns=st.integers(1, 100), width=st.integers(1, 120), threads=st.integers(1, 9))
def test_tiles_are_all_columns_in_equal_pieces_for_all_threads(columns, width, threads):
    matrix = np.arange(2 * columns).reshape(2, columns)
    with patch.object(arrays, "CPU_THREADS", threads):
        tiles = tiles_of(matrix, width)
    np.testing.assert_array_equal(np.concatenate(tiles, axis=1), matrix)
    widths = [tile.shape[1] for tile in tiles]
    assert min(widths) >= 1 and max(widths) <= min(width, min(widths) + 1)
    assert len(tiles) % threads == 0 or len(tiles) == columns


def test_a_tensor_is_one_tile():
    tensor = paddle.ones([2, 10])
    assert tiles_of(tensor, 3) == [tensor]
