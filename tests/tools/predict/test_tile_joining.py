"""Instances of tiles are put together: each object once, with its whole mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.predict.instances import Instances
from tools.predict.tile_joining import Level, join_levels
from tools.predict.tiles import Tiling, plan_windows

SIZE = 400, 500
TILING = Tiling(160, 0.25)
NAMES = "disc", "square"


def instances_of(masks: list[np.ndarray], scores: list[float], labels: list[int], size=SIZE) -> Instances:
    return Instances.from_masks(np.array(masks, bool).reshape(-1, *size), scores, labels, NAMES, (1, 2))


def ellipse(centre, axes, angle=0.0) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
    return mask > 0


def see(masks: list[np.ndarray], labels: list[int], scores: list[float]) -> Level:
    """Return what a perfect network finds in the tiles: the part of each mask that the tile shows."""
    tiles = []
    for window in plan_windows(SIZE, TILING):
        top, left, bottom, right = window
        parts = [mask[top:bottom, left:right] for mask in masks]
        seen = [i for i, part in enumerate(parts) if part.any()]
        found = instances_of(
            [parts[i] for i in seen], [scores[i] for i in seen], [labels[i] for i in seen], window.size
        )
        tiles.append((window, found))
    return Level(1.0, SIZE, tiles)


def joined(*levels: Level) -> Instances:
    return join_levels(SIZE, levels, overlap=TILING.side * TILING.overlap)


@st.composite
def disjoint_ellipses(draw: st.DrawFn) -> list[np.ndarray]:
    """Draw masks of 8 to 300 pixels that have no pixel in common."""
    taken = np.zeros(SIZE, bool)
    masks = []
    for _ in range(draw(st.integers(0, 8))):
        centre = draw(st.integers(0, SIZE[1] - 1)), draw(st.integers(0, SIZE[0] - 1))
        axes = draw(st.integers(4, 150)), draw(st.integers(4, 60))
        mask = ellipse(centre, axes, draw(st.integers(0, 180)))
        if not (mask & taken).any():
            taken |= mask
            masks.append(mask)
    return masks


@given(masks=disjoint_ellipses(), seed=st.integers(0, 99))
def test_each_object_is_found_once_with_its_whole_mask(masks, seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, len(masks)).tolist(), rng.uniform(0.3, 1, len(masks)).tolist()
    found = joined(see(masks, labels, scores))
    assert len(found) == len(masks)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    for mask, label, score in zip(masks, labels, scores):
        [same] = [i for i, other in enumerate(found.masks) if (other == mask).all()]
        assert found.classes[same] == label and found.scores[same] == pytest.approx(score)


def test_the_better_of_two_views_counts():
    """Two tiles show the disc whole, with masks that differ by a column of pixels."""
    mask = ellipse((150, 60), (10, 10))
    level = see([mask], [0], [0.5])
    windows = [window for window, found in level.tiles if len(found)]
    assert len(windows) == 2
    shifted = see([np.roll(mask, 1, axis=1)], [0], [0.9])
    tiles = [tile if tile[0] == windows[0] else other for tile, other in zip(level.tiles, shifted.tiles)]
    found = joined(Level(1.0, SIZE, tiles))
    assert found.scores.tolist() == pytest.approx([0.9])
    assert (found.masks[0] == np.roll(mask, 1, axis=1)).all()


def test_two_objects_that_touch_are_not_joined():
    """One box contains the other; masks tell them apart, boxes do not."""
    ring = ellipse((250, 200), (120, 120)) & ~ellipse((250, 200), (100, 100))
    disc = ellipse((250, 200), (90, 90))
    found = joined(see([ring, disc], [0, 0], [0.9, 0.8]))
    assert sorted(mask.sum() for mask in found.masks) == sorted([ring.sum(), disc.sum()])


def reduced(masks: list[np.ndarray], labels: list[int], scores: list[float], factor: int) -> Level:
    small = [cv2.resize(mask.astype(np.uint8), (SIZE[1] // factor, SIZE[0] // factor)) > 0 for mask in masks]
    size = SIZE[0] // factor, SIZE[1] // factor
    return Level(float(factor), size, [(plan_windows(size, TILING)[0], instances_of(small, scores, labels, size))])


def test_a_large_object_comes_from_the_reduced_picture():
    """Its tiles show texture without an outline, and the network finds nothing or fragments there."""
    large, small = ellipse((250, 200), (180, 150)), ellipse((40, 40), (10, 10))
    fragment = np.zeros(SIZE, bool)
    fragment[130:170, 200:280] = True  # cut by the border of a tile
    fine = see([fragment, small], [1, 0], [0.4, 0.8])
    found = joined(fine, reduced([large, small], [0, 0], [0.7, 0.9], 4))
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])
    union = (found.masks[1] | large).sum()
    assert (found.masks[1] & large).sum() / union > 0.95


def test_small_objects_do_not_come_from_the_reduced_picture():
    small = ellipse((250, 200), (15, 15))
    assert len(joined(see([], [], []), reduced([small], [0], [0.9], 4))) == 0


def test_a_joined_mask_is_kept_if_the_reduced_picture_agrees():
    """It is finer than that of the reduced picture."""
    large = ellipse((250, 200), (180, 40), 20)
    found = joined(see([large], [0], [0.6]), reduced([large], [0], [0.9], 4))
    assert len(found) == 1 and (found.masks[0] == large).all()


def test_nothing_is_found():
    found = joined(see([], [], []))
    assert len(found) == 0 and found.size == SIZE and found.class_names == NAMES
