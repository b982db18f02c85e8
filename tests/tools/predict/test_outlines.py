"""Test masks as polygons: exact ones give the mask again, simple ones nearly so, and one outline holds all parts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.shapes import draw_scene
from tools.predict.outlines import MIN_IOU, Part, exact_parts, iou, join_rings, rasterise, simple_parts

masks = st.builds(
    lambda seed, height, width, blur: blurred_noise(seed, height, width, blur),
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([1, 3, 9, 21]),
)


def blurred_noise(seed, height, width, blur):
    """Return a mask, bool [height, width], of parts with holes; the larger `blur`, the rounder."""
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    return cv2.GaussianBlur(noise, (blur, blur), 0) > 0.5


@given(masks)
def test_exact_parts_give_the_mask_again(mask):
    parts = exact_parts(mask)
    np.testing.assert_array_equal(rasterise(parts, mask.shape), mask)
    assert all(len(ring) >= 3 for part in parts for ring in part.rings())


@given(masks)
def test_simple_parts_are_close_to_the_mask(mask):
    parts = simple_parts(mask)
    assert iou(rasterise(parts, mask.shape), mask) >= MIN_IOU
    assert len(parts) in (0, 1, len(exact_parts(mask)))


@given(masks.filter(np.any))
def test_one_outline_holds_all_parts_and_holes(mask):
    ring = join_rings(exact_parts(mask))
    np.testing.assert_array_equal(rasterise([Part(ring)], mask.shape), mask)


def test_shapes_have_a_seventh_of_the_points():
    scene = draw_scene(rng=np.random.default_rng(3), height=480, width=640)
    exact, simple = (
        sum(len(ring) for crop in scene.masks for part in of(crop) for ring in part.rings())
        for of in (exact_parts, simple_parts)
    )
    assert 0 < simple < exact / 7


def test_nothing_has_no_parts():
    assert (
        exact_parts(np.zeros((0, 0), bool))
        == exact_parts(np.zeros((4, 5), bool))
        == simple_parts(np.zeros((3, 3), bool))
        == []
    )
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1


def test_a_ring_has_its_hole():
    mask = np.zeros((12, 12), bool)
    mask[1:11, 1:11] = True
    mask[4:8, 4:8] = False
    (part,) = exact_parts(mask)
    assert sorted(part.outer.tolist()) == [[1, 1], [1, 11], [11, 1], [11, 11]]
    assert [sorted(hole.tolist()) for hole in part.holes] == [[[4, 4], [4, 8], [8, 4], [8, 8]]]


@pytest.mark.parametrize(("hole", "specks", "expected"), [(2, 2, (1, 0)), (12, 0, (1, 1)), (2, 12, (2, 0))])
def test_small_holes_and_parts_are_left_out(hole, specks, expected):
    mask = np.zeros((60, 80), bool)
    mask[4:54, 4:54] = True
    mask[20 : 20 + hole, 20 : 20 + hole] = False
    mask[10 : 10 + specks, 60 : 60 + specks] = True
    parts = simple_parts(mask)
    assert (len(parts), sum(len(part.holes) for part in parts)) == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_masks_are_exact(size):
    mask = np.ones((size, size), bool)
    np.testing.assert_array_equal(rasterise(simple_parts(mask), mask.shape), mask)
