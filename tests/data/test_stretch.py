"""Stretching of a picture's values, against a plain version that has numpy's percentiles."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from config.errors import InputError
from data import stretch as module
from data.stretch import stretch_picture

PERCENTILES_AND_GAMMA = st.tuples(st.floats(0, 50), st.floats(51, 100), st.floats(0.1, 3))
STRETCHES = PERCENTILES_AND_GAMMA | st.builds(
    lambda least, three: (*three, least), st.floats(0, 1e5), PERCENTILES_AND_GAMMA
)
SHAPES = st.sampled_from([(1, 1), (3, 5), (7, 4, 3)])
DTYPES = ["uint8", "uint16", "int8", "int16", ">u2", "int32", "uint32", "int64", "float16", "float32", "float64"]
DEEP_INTEGERS = [np.dtype(name) for name in ("uint16", "int16", ">u2", "int32", "uint32", "int64")]


def plain(values: np.ndarray, low: float, high: float, gamma: float, least_range: float = 0) -> np.ndarray:
    """Stretch as the docstring of `stretch_picture` says, value by value."""
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    result = np.zeros(values.shape, np.uint8)
    if finite.size:
        low, high = np.percentile(finite, [low, high], method="inverted_cdf")
        if values.dtype in DEEP_INTEGERS:
            high = max(high, low + least_range)
        for place, number in np.ndenumerate(numbers):
            if low == high:
                result[place] = 255 * (number > high)
            elif not np.isnan(number):
                result[place] = np.rint(255 * ((np.clip(number, low, high) - low) / (high - low)) ** gamma)
    return result if result.ndim == 3 else np.repeat(result[..., None], 3, axis=2)


def values_of(dtype: str) -> st.SearchStrategy[np.ndarray]:
    if np.dtype(dtype).kind != "f":
        return arrays.arrays(dtype, SHAPES)
    return arrays.arrays(dtype, SHAPES, elements=st.sampled_from([np.nan, np.inf, -np.inf, -7.5, 0, 0.25, 1, 3, 60000]))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data(), stretch=STRETCHES)
@settings(max_examples=40)
def test_equals_the_plain_version(dtype, data, stretch):
    values = data.draw(values_of(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stretched = stretch_picture(values, stretch)
    assert stretched.dtype == np.uint8 and stretched.flags.c_contiguous
    np.testing.assert_array_equal(stretched, plain(values, *stretch))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32"])
def test_large_pictures_and_views_equal_the_plain_percentiles(dtype, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 1000)
    values = (np.random.default_rng(3).gamma(2, 300, (90, 70, 3)) - 100).astype(dtype)[::2, ::-1]
    np.testing.assert_array_equal(stretch_picture(values, (1.0, 99.8, 0.7)), plain(values, 1.0, 99.8, 0.7))


def test_values_between_the_percentiles_become_0_to_255():
    camera = np.array([[100, 200, 300, 4000]], np.uint16)
    assert stretch_picture(camera, (0, 75, 1))[0, :, 0].tolist() == [0, 128, 255, 255]  # 127.5 is rounded to even
    assert stretch_picture(camera, (0, 75, 0.5))[0, :, 0].tolist() == [0, 180, 255, 255]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_grey_picture_is_stretched_as_its_three_equal_channels(dtype):
    grey = np.random.default_rng(0).integers(0, 3000, (13, 17)).astype(dtype)
    equal = np.repeat(grey[..., None], 3, axis=2)
    for stretch in ((1.0, 99.8, 0.7), (0, 100, 1), (49.5, 50, 2)):
        np.testing.assert_array_equal(stretch_picture(grey, stretch), stretch_picture(equal, stretch))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float64"])
def test_a_constant_picture_is_black(dtype):
    assert not stretch_picture(np.full((4, 5), 77, dtype), (1, 99, 0.5)).any()


def test_few_bright_values_stay_visible_where_both_percentiles_are_equal():
    sparse = np.zeros((10, 10), np.uint16)
    sparse[3, 4] = 9
    assert np.argwhere(stretch_picture(sparse, (1, 99, 1))[..., 0] == 255).tolist() == [[3, 4]]


def test_values_that_are_not_finite():
    picture = np.array([[np.nan, -np.inf, np.inf, 1, 2, 3]], np.float32)
    assert stretch_picture(picture, (0, 100, 1))[0, :, 0].tolist() == [0, 0, 255, 0, 128, 255]
    assert not stretch_picture(np.array([[np.nan, np.inf, -np.inf]]), (0, 100, 1)).any()


def test_the_noise_of_an_empty_picture_stays_dark_with_a_least_range():
    noise = np.array([[130, 140, 150, 160]])
    assert stretch_picture(noise.astype(np.uint16), (0, 100, 1))[0, :, 0].tolist() == [0, 85, 170, 255]
    assert stretch_picture(noise.astype(np.uint16), (0, 100, 1, 300))[0, :, 0].tolist() == [
        0,
        8,
        17,
        26,
    ]  # 25.5: to even
    for scaled in (noise.astype(np.uint8), noise / 255):  # their range says nothing about the camera's noise
        assert stretch_picture(scaled, (0, 100, 1, 300))[0, :, 0].tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize("stretch", [(), (1, 99), (99, 1, 1), (0, 100, 0), (1, 99, float("nan")), (1, 99, 1, -1)])
def test_percentiles_that_make_no_sense_are_refused(stretch):
    with pytest.raises(InputError, match="expected a low and a high percentile from 0 to 100, a gamma above 0"):
        stretch_picture(np.zeros((4, 4), np.uint16), stretch)
