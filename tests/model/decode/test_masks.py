"""Masks of single cells, by the fast and the plain version, equal the whole maps of the original programs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Callable, NamedTuple
from unittest.mock import patch

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from config.base import HeadConfig
from model.decode import fast_masks
from model.decode.fast_masks import KernelMasks, tiles_of
from model.decode.windows import WindowedMaps
from tests.support.loops import both_loops  # noqa: F401
from tools.common.kinds import GridKind, descriptor

GRIDS = (4, 3, 2)
CELLS = 16 + 9 + 4
SIZES = ((12, 20), (12, 20), (6, 10))  # of the levels' masks; the last one's are enlarged
SIZE = SIZES[0]
HEAD = HeadConfig(num_grids=GRIDS, strides=(1, 1, 1))
SEEDS = st.integers(0, 2**31)


class Case(NamedTuple):
    kind: GridKind
    parts: list[paddle.Tensor]  # raw predictions of a picture after the scores
    maps: np.ndarray  # [cells, *SIZE], the masks of all cells
    head: HeadConfig = HEAD

    def fast(self) -> fast_masks.CellMasks:
        return self.kind.fast_masks([part.numpy() for part in self.parts], 0, self.head)


def normal(seed: int, *shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def enlarge(masks: paddle.Tensor) -> np.ndarray:
    """[n, h, w] to [n, *SIZE], as the original program resizes all maps of a level."""
    return F.interpolate(masks.unsqueeze(0), size=SIZE, mode="bilinear", align_corners=False).squeeze(0).numpy()


def solov2(seed: int) -> Case:
    kernels, feats = normal(seed, 1, CELLS, 5), normal(seed + 1, 1, 5, *SIZE)
    return Case(
        descriptor("solov2"), [kernels, feats], F.sigmoid(paddle.einsum("ncd,ndhw->chw", kernels, feats)).numpy()
    )


def solo(seed: int) -> Case:
    kernels = normal(seed, CELLS, 5)
    feats = [normal(seed + 1 + level, 1, 5, *size) for level, size in enumerate(SIZES)]
    own = kernels.split([grid * grid for grid in GRIDS])
    maps = [enlarge(F.sigmoid(paddle.einsum("cd,ndhw->chw", *pair))) for pair in zip(own, feats)]
    return Case(descriptor("solo"), [kernels, *feats], np.concatenate(maps))


def decoupled_solo(seed: int) -> Case:
    logits = [normal(seed + i, 1, 2 * grid, *size) * 2 + 1 for i, (grid, size) in enumerate(zip(GRIDS, SIZES))]
    masks = []
    for grid, level in zip(GRIDS, logits):
        maps = enlarge(F.sigmoid(level[0]))
        masks += [maps[column] * maps[grid + row] for row in range(grid) for column in range(grid)]
    return Case(descriptor("decoupled_solo"), logits, np.stack(masks))


def windowed(seed: int) -> Case:
    """Compute each mask pixel by pixel. The longest reach is beyond the map."""
    head = replace(HEAD, reach=[2, 5, 7, 30][seed % 4])
    kernels, feats = normal(seed, 1, CELLS, 5 + 6), normal(seed + 1, 1, 5, *SIZE)
    logits = np.einsum("cd,dhw->chw", kernels.numpy()[0, :, :5], feats.numpy()[0])
    places = [(grid, *divmod(number, grid)) for grid in GRIDS for number in range(grid * grid)]
    pixels = [np.arange(length) for length in SIZE]
    for mask, weights, (grid, *place) in zip(logits, kernels.numpy()[0, :, 5:].astype(np.float64), places):
        centres = [(number + 0.5) / grid * length for number, length in zip(place, SIZE)]
        starts = [math.floor(centre - head.reach + 0.5) for centre in centres]
        starts = [max(min(start, length - 2 * head.reach), 0) for start, length in zip(starts, SIZE)]
        y, x = ((middles + 0.5 - centre) / head.reach for middles, centre in zip(pixels, centres))
        y, x = y[:, None], x[None]
        terms = [np.broadcast_to(term, SIZE) for term in (1, y, x, y * y, x * x, x * y)]
        mask += np.tensordot(weights, np.array(terms), 1)
        rows, columns = ((each >= start) & (each < start + 2 * head.reach) for each, start in zip(pixels, starts))
        mask[~(rows[:, None] & columns[None])] = -np.inf
    return Case(descriptor("solov2"), [kernels, feats], 1 / (1 + np.exp(-logits)), head)


CASES: list[Callable[[int], Case]] = [solov2, solo, decoupled_solo, windowed]


@settings(max_examples=60)
@given(
    make=st.sampled_from(CASES),
    seed=SEEDS,
    cells=st.lists(st.integers(0, CELLS - 1), min_size=1, max_size=40),
    threshold=st.sampled_from([0.5, 0.3, 0.8]),
    together=st.sampled_from([1, 7, 2048]),
)
def test_fast_masks_of_cells_are_those_of_the_whole_maps(make, seed, cells, threshold, together):
    case, cells = make(seed), np.array(cells)
    masks = case.fast()
    assert masks.size == SIZE
    with patch.multiple(fast_masks, TILE_SIZE=1, NARROWEST_TILE=together, ENLARGED_AT_ONCE=together):
        probabilities = masks.probabilities(cells)
        inside = masks.inside(cells, threshold)
    assert inside.bits.dtype == np.uint8
    pixels = case.maps[cells].reshape(len(cells), -1)
    if isinstance(probabilities, WindowedMaps):
        probabilities = probabilities.whole()
        rows = inside.bits.reshape(len(cells), SIZE[0], -1)
        bits = np.unpackbits(rows, axis=2, count=SIZE[1]).reshape(pixels.shape)
    else:
        bits = np.unpackbits(inside.bits, axis=1, count=pixels.shape[1])
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, case.maps[cells], atol=1e-5)
    undecided = np.abs(pixels - threshold) < 1e-5
    assert ((bits > 0) == (pixels > threshold))[~undecided].all()
    np.testing.assert_array_equal(inside.areas, bits.sum(axis=1))
    np.testing.assert_allclose(inside.sums, (pixels * bits).sum(axis=1), rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(make=st.sampled_from(CASES), seed=SEEDS, cells=st.lists(st.integers(0, CELLS - 1), min_size=1, max_size=40))
def test_plain_masks_of_cells_are_those_of_the_whole_maps(make, seed, cells):
    case = make(seed)
    masks = case.kind.plain_masks()(case.parts, 0, paddle.to_tensor(cells), case.head)
    assert masks.dtype == paddle.float32
    np.testing.assert_allclose(masks.numpy(), case.maps[cells], atol=1e-5)


@settings(max_examples=40)
@given(make=st.sampled_from(CASES), seed=SEEDS, threshold=st.sampled_from([0.5, 0.3, 0.8, 0.9]))
def test_no_mask_exceeds_its_bound(make, seed, threshold):
    masks = make(seed).fast()
    cells = np.random.default_rng(seed).permutation(CELLS)
    _, bounds = masks.estimate_maskness(cells, threshold)
    inside = masks.inside(cells, threshold)
    assert bounds.dtype == np.float32 and bounds.max() <= 1
    assert (inside.sums <= bounds * inside.areas * (1 + 1e-5)).all()


@pytest.mark.parametrize("period", [1, 16, 272])
def test_the_bound_of_a_large_mask_is_near_its_maskness_whatever_its_pattern(period):
    feats = np.where(np.arange(200 * 272) // period % 2, 2.0, 0.5).astype(np.float32).reshape(1, 200, 272)
    masks = KernelMasks(np.linspace(0.1, 1, 10, dtype=np.float32)[:, None], feats)
    inside = masks.inside(np.arange(10), 0.5)
    _, bounds = masks.estimate_maskness(np.arange(10), 0.5)
    above = bounds - inside.sums / inside.areas
    assert (above > 0).all() and (above < 0.08).all()


@given(columns=st.integers(1, 1000), width=st.integers(1, 1200), threads=st.integers(1, 9))
def test_tiles_are_all_columns_in_equal_pieces_for_all_threads(columns, width, threads):
    matrix = np.arange(2 * columns).reshape(2, columns)
    with patch.object(fast_masks, "CPU_THREADS", threads):
        tiles = tiles_of(matrix, width)
    np.testing.assert_array_equal(np.concatenate(tiles, axis=1), matrix)
    widths = [tile.shape[1] for tile in tiles]
    assert min(widths) >= 1 and max(widths) < min(width, min(widths)) + 16  # up to multiples of 8
    assert len(tiles) % threads == 0 or columns < 8 * len(tiles) + 8 * threads


@given(columns=st.integers(1, 200), width=st.integers(1, 50), threads=st.integers(1, 3), seed=SEEDS)
def test_bits_of_tiles_are_those_of_the_whole(columns, width, threads, seed):
    inside = np.random.default_rng(seed).random((3, columns)) < 0.5
    with patch.object(fast_masks, "CPU_THREADS", threads):
        tiles = tiles_of(inside, width)
    packed = np.concatenate([np.packbits(tile, axis=1) for tile in tiles], axis=1)
    np.testing.assert_array_equal(packed, np.packbits(inside, axis=1))
