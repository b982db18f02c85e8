"""Compiled loops are used where there are many masks, are compiled once, and are not needed."""

from __future__ import annotations

import importlib.util
import sys
from typing import Callable

import numpy as np
import pytest

from config.base import HeadConfig, NMSConfig
from model.decode import loops
from model.decode.fast_masks import _inside_logits
from model.decode.fast_matrix_nms import matrix_nms
from model.decode.loops import MANY_MASKS, numba_loops
from model.decode.window_masks import WindowMasks
from tests.support.loops import needs_numba
from tools.predict.mask_windows import masks_at_picture_size

HEAD = HeadConfig(num_grids=(9,), strides=(8,), reach=4)


def decode_windows() -> tuple[np.ndarray, list]:
    """Return the factors of Matrix NMS and the crops of 81 masks in windows, (top, left, pixels)."""
    random = np.random.default_rng(0)
    kernels, feats = (random.normal(size=shape).astype(np.float32) for shape in ((81, 10), (4, 30, 40)))
    kernels[:, 4] += 2  # the constant of the polynomials, so that no mask is empty
    cells, masks = np.arange(81), WindowMasks(kernels, feats, HEAD)
    inside = masks.inside(cells, 0.5)
    factors = matrix_nms(inside.bits, inside.areas, np.zeros(81, np.int64), NMSConfig())
    sizes = {"stride": 4, "resized": (100, 160), "original": (50, 70)}
    crops = masks_at_picture_size(masks.probabilities(cells), threshold=0.5, **sizes)
    return factors, [(crop.top, crop.left, crop.mask.tolist()) for crop in crops]


@needs_numba
def test_each_loop_is_compiled_once(monkeypatch):
    """Arrays of other types would be compiled for in the middle of a run, seconds each."""
    factors, crops = decode_windows()
    compiled = numba_loops(MANY_MASKS)
    names = [name for name, value in vars(compiled).items() if hasattr(value, "signatures")]
    names = [name for name in names if not name.startswith("_")]  # which only the others call
    assert len(names) == 6
    assert {name: len(getattr(compiled, name).signatures) for name in names} == dict.fromkeys(names, 1)
    monkeypatch.setattr(loops, "MANY_MASKS", sys.maxsize)
    expected, expected_crops = decode_windows()
    np.testing.assert_allclose(factors, expected, rtol=1e-5)
    assert crops == expected_crops


@needs_numba
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("pixels", [1, 63, 64, 200])
def test_sums_inside_are_those_of_numpy(monkeypatch, threshold, pixels):
    """Compare empty, full and mixed masks, with logits so large that probabilities are 0 or 1."""
    half_logits = np.random.default_rng(0).normal(0, 9, (8, pixels)).astype(np.float32)
    half_logits[0], half_logits[1], half_logits[2, 0] = -50, 50, np.inf
    found = _inside_logits(half_logits.copy(), threshold)
    monkeypatch.setattr(loops, "MANY_MASKS", 1)
    compiled = _inside_logits(half_logits, threshold)
    np.testing.assert_array_equal(compiled.bits, found.bits)
    np.testing.assert_array_equal(compiled.areas, found.areas)
    np.testing.assert_allclose(compiled.sums, found.sums, rtol=2e-6)


def test_few_masks_need_no_loops():
    assert numba_loops(MANY_MASKS - 1) is None


@pytest.mark.parametrize("error", [ImportError("Numba needs NumPy 2.4 or less"), OSError("No space left on device")])
def test_without_a_numba_that_works_numpy_is_used(monkeypatch, error):
    def fail() -> None:
        raise error

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(loops, "_import_loops", fail)
    loops._load.cache_clear()
    assert numba_loops(MANY_MASKS) is None
    loops._load.cache_clear()


@needs_numba
def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch):
    """Numba keeps compiled loops in __pycache__ or in the user's cache folder, or says that it cannot."""
    import numba

    from model.decode.numba_loops import _compile

    njit = numba.njit

    def refuse(function: Callable, *, cache: bool = False, **options: object) -> Callable:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    assert _compile(lambda number: number + 1)(1) == 2
