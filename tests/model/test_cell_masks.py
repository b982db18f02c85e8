"""Masks of single cells, made in three ways, are those that the whole maps of the original programs hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable
from unittest.mock import patch

import hypothesis
import numpy as np
import paddle
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from config.base import HeadConfig
from model.arrays import Array
from model.head import cell_masks
from model.head.cell_masks import CellMasks, KernelMasks, LevelMasks, ProductMasks
from model.networks import GRID_NETWORKS

Given = Callable[[paddle.Tensor], Array]  # in which library the network gave its predictions

GRIDS = (4, 3, 2)
CELLS = 16 + 9 + 4
SIZES = ((12, 20), (12, 20), (6, 10))  # of the levels' masks; the last one's are enlarged
SIZE = SIZES[0]


def normal(seed: int, *shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def as_tensor(tensor: paddle.Tensor) -> paddle.Tensor:
    return tensor


def enlarged(soft: paddle.Tensor) -> np.ndarray:
    """[n, h, w] to [n, *SIZE], as the original program resizes all maps of a level."""
    return F.interpolate(soft.unsqueeze(0), size=SIZE, mode="bilinear", align_corners=False).squeeze(0).numpy()


def by_kernels(seed: int, given: Given) -> tuple[CellMasks, np.ndarray]:
    kernels, feats = normal(seed, CELLS, 5), normal(seed + 1, 5, *SIZE)
    return KernelMasks(given(kernels), given(feats)), F.sigmoid(paddle.einsum("cd,dhw->chw", kernels, feats)).numpy()


def by_levels(seed: int, given: Given) -> tuple[CellMasks, np.ndarray]:
    kernels = normal(seed, CELLS, 5)
    feats = [normal(seed + 1 + level, 5, *size) for level, size in enumerate(SIZES)]
    own = kernels.split([grid * grid for grid in GRIDS])
    whole = [enlarged(F.sigmoid(paddle.einsum("cd,dhw->chw", *pair))) for pair in zip(own, feats)]
    return LevelMasks(given(kernels), [given(level) for level in feats], GRIDS), np.concatenate(whole)


def by_products(seed: int, given: Given) -> tuple[CellMasks, np.ndarray]:
    logits = [normal(seed + i, 2 * grid, *size) * 2 + 1 for i, (grid, size) in enumerate(zip(GRIDS, SIZES))]
    whole = []
    for grid, level in zip(GRIDS, logits):
        maps = enlarged(F.sigmoid(level))
        whole += [maps[column] * maps[grid + row] for row in range(grid) for column in range(grid)]
    return ProductMasks([given(level) for level in logits], GRIDS), np.stack(whole)


@settings(max_examples=60)
@hypothesis.given(
    make=st.sampled_from([by_kernels, by_levels, by_products]),
    given=st.sampled_from([as_tensor, np.asarray]),
    seed=st.integers(0, 2**31),
    cells=st.lists(st.integers(0, CELLS - 1), min_size=1, max_size=40),
    threshold=st.sampled_from([0.5, 0.3, 0.8]),
    together=st.sampled_from([1, 7, 2048]),
)
def test_masks_of_cells_are_those_of_the_whole_maps(make, given, seed, cells, threshold, together):
    masks, whole = make(seed, given)
    cells = np.array(cells)
    assert masks.size == SIZE
    tiles = patch.multiple(cell_masks, TILE_ON_CPU=1, NARROWEST=together, TOGETHER=together)
    with tiles, ThreadPoolExecutor(2) as pool:
        soft = masks.soft(cells, pool.map)
        found = masks.inside(cells, threshold, pool.map)
    assert isinstance(soft, np.ndarray) == (given is np.asarray) and "float32" in str(soft.dtype)
    np.testing.assert_allclose(soft, whole[cells], atol=1e-5)
    pixels = whole[cells].reshape(len(cells), -1)
    ours = np.asarray(found.masks)
    assert ours.dtype == np.uint8
    if given is np.asarray:
        ours = np.unpackbits(ours, axis=1, count=pixels.shape[1])
    undecided = np.abs(pixels - threshold) < 1e-5
    assert ((ours > 0) == (pixels > threshold))[~undecided].all()
    np.testing.assert_array_equal(found.areas, ours.sum(axis=1))
    np.testing.assert_allclose(found.sums, (pixels * ours).sum(axis=1), rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@hypothesis.given(
    make=st.sampled_from([by_kernels, by_levels, by_products]),
    given=st.sampled_from([as_tensor, np.asarray]),
    seed=st.integers(0, 2**31),
    threshold=st.sampled_from([0.5, 0.3, 0.8, 0.9]),
)
def test_no_mask_is_more_certain_than_its_bound(make, given, seed, threshold):
    masks, _ = make(seed, given)
    cells = np.random.default_rng(seed).permutation(CELLS)
    bounds = masks.likely_certainty(cells, threshold)[:, 1]
    found = masks.inside(cells, threshold)
    assert bounds.dtype == np.float32 and bounds.max() <= 1
    assert (found.sums <= bounds * found.areas * (1 + 1e-5)).all()


@pytest.mark.parametrize("period", [1, 16, 272])
def test_a_bound_is_near_the_certainty_of_a_large_mask_whatever_its_pattern(period):
    feats = np.where(np.arange(200 * 272) // period % 2, 2.0, 0.5).astype(np.float32).reshape(1, 200, 272)
    masks = KernelMasks(np.linspace(0.1, 1, 10, dtype=np.float32)[:, None], feats)
    found = masks.inside(np.arange(10), 0.5)
    bounds = masks.likely_certainty(np.arange(10), 0.5)[:, 1]
    above = bounds - found.sums / found.areas
    assert (above > 0).all() and (above < 0.04).all()


@pytest.mark.parametrize("kind", GRID_NETWORKS)
def test_a_level_learns_masks_of_the_size_that_it_predicts(kind):
    """At a quarter of the input's size, or for the coarser levels of SOLO a half or a quarter of that."""
    strides = HeadConfig(kind=kind).mask_strides
    assert strides == ((4,) * 5 if kind == "solov2" else (4, 4, 8, 16, 16))
    assert HeadConfig(kind=kind, num_grids=(9, 8)).mask_strides == (4, 4)
