"""Tiles cover a picture with the overlap that is asked for, at levels down to one tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_config
from data.picture_windows import OVERVIEW_SIDE, WholePicture
from tools.predict.tiles import TiledPicture, Tiling, level_factors, network_side, plan_windows

SIDES, OVERLAPS = st.integers(64, 300), st.floats(0, 0.5)


@given(height=st.integers(1, 2000), width=st.integers(1, 2000), side=SIDES, overlap=OVERLAPS)
def test_windows_cover_the_picture_and_overlap(height, width, side, overlap):
    windows = plan_windows((height, width), Tiling(side, overlap))
    for starts, ends, length in (
        ({w.top for w in windows}, {w.bottom for w in windows}, height),
        ({w.left for w in windows}, {w.right for w in windows}, width),
    ):
        assert min(starts) == 0 and max(ends) == length
        pairs = zip(sorted(ends), sorted(starts)[1:])
        assert all(end - start >= int(side * overlap) - 1 for end, start in pairs)
    assert {window.size for window in windows} == {(min(side, height), min(side, width))}
    assert len(windows) == len(set(windows))


def test_a_picture_that_fits_is_one_tile():
    tiling = Tiling(100)
    assert tiling.fits((100, 30)) and not tiling.fits((30, 101))
    assert plan_windows((100, 30), tiling) == [(0, 0, 100, 30)]
    assert level_factors((100, 30), 100, least=1) == [1]


@given(side=SIDES, longest=st.integers(64, 10**6))
def test_the_last_level_fits_into_a_tile(side, longest):
    least = -(-longest // OVERVIEW_SIDE)
    factors = level_factors((longest // 2, longest), side, least=least)
    assert factors[0] == 1 and factors == sorted(set(factors))
    assert longest <= side or longest / factors[-1] <= side * (1 + 1e-9)
    assert all(factor >= least for factor in factors[1:])
    steps = [after / before for before, after in zip(factors, factors[1:])]
    assert all(step <= 5 + 1e-9 for step in steps[least > 1 :])  # the overview may have too few pixels for the first


def test_tiles_have_the_pixels_of_their_level():
    image = np.random.default_rng(0).integers(0, 256, (500, 900, 3), np.uint8)
    picture = TiledPicture(WholePicture(image), Tiling(200))
    tiles = list(picture.tiles())
    assert [tile.is_last for tile in tiles] == [False] * (len(tiles) - 1) + [True]
    assert sum(tile.share for tile in tiles) == pytest.approx(1)
    assert picture.factors == [1, 4.5]
    for tile in tiles[:-1]:
        top, left, bottom, right = tile.window
        np.testing.assert_array_equal(picture.read(tile), image[top:bottom, left:right])
    assert tiles[-1].level == 1
    reduced = picture.read(tiles[-1])
    assert reduced.shape == (111, 200, 3)
    assert abs(reduced.mean() - image.mean()) < 1


@pytest.mark.parametrize(("number", "side"), [(20, 352), (21, 624), (1, 448), (0, 800)])
def test_the_side_that_a_network_sees(number, side):
    assert network_side(load_config(number)) == side
