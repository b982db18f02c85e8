"""labelme's shapes become masks: every kind of shape, groups, shapes over the border and broken ones."""

from __future__ import annotations

import math
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from data.coco_rows import CocoInstance
from data.labelme_shapes import MAX_COORDINATE, clip_polygon, convert_shapes
from tests.support.labelme_files import in_base64
from tests.support.png_chunks import grey_png

HEIGHT, WIDTH = 60, 80


def shape(points: object, kind: str | None = "polygon", **more: object) -> dict:
    return {"label": "cat", "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def png(mask: np.ndarray) -> str:
    return in_base64(cv2.imencode(".png", mask)[1].tobytes())


def read(*shapes: object, line_width: float = 5):
    return convert_shapes(shapes, height=HEIGHT, width=WIDTH, line_width=line_width)


def mask_of(instance: CocoInstance) -> np.ndarray:
    return coco_mask.decode(instance.rle).astype(bool)


def only_mask(*shapes: dict, line_width: float = 5) -> np.ndarray:
    found = read(*shapes, line_width=line_width)
    assert (len(found.instances), found.left_out, found.points) == (1, (), 0)
    return mask_of(found.instances[0])


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """Return bool [HEIGHT, WIDTH], true inside the box."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[max(y1, 0) : y2, max(x1, 0) : x2] = True
    return mask


def centres() -> tuple[np.ndarray, np.ndarray]:
    """Return x [1, WIDTH] and y [HEIGHT, 1] of the pixels' centres."""
    return np.arange(WIDTH)[None] + 0.5, np.arange(HEIGHT)[:, None] + 0.5


def distance_to_line(points: np.ndarray) -> np.ndarray:
    """Return float64 [HEIGHT, WIDTH], distances of the pixels' centres to a line. points: float64 [n, 2]."""
    grid = np.stack(np.broadcast_arrays(*centres()), axis=-1)  # [H, W, 2]
    distance = np.full((HEIGHT, WIDTH), np.inf)
    for start, end in zip(points, points[1:]):
        along = end - start
        share = np.clip((grid - start) @ along / max(along @ along, 1e-9), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(grid - start - share[..., None] * along, axis=-1))
    return distance


def filled_pixels(points: np.ndarray) -> np.ndarray:
    """Return the pixels that pycocotools fills."""
    rles = coco_mask.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)
    return coco_mask.decode(rles[0]).astype(bool)


def test_polygon_stays_the_polygon_that_was_drawn():
    found = read(shape([[10.5, 10.25], [30, 10], [30, 40], [10, 40]]))
    assert found.instances[0].polygons == ([10.5, 10.25, 30, 10, 30, 40, 10, 40],)
    assert found.instances[0].class_name == "cat"
    np.testing.assert_array_equal(only_mask(shape([[10, 10], [30, 10], [30, 40], [10, 40]])), box(10, 10, 30, 40))


@pytest.mark.parametrize("kind", [None, ""])
def test_shape_without_a_kind_is_a_polygon_as_in_old_files(kind):
    np.testing.assert_array_equal(only_mask(shape([[0, 0], [9, 0], [9, 9], [0, 9]], kind)), box(0, 0, 9, 9))


@pytest.mark.parametrize("points", [[[10, 5], [30, 25]], [[30, 25], [10, 5]], [[30, 5], [10, 25]], [[10, 25], [30, 5]]])
def test_rectangle_is_given_by_opposite_corners_in_any_order(points):
    np.testing.assert_array_equal(only_mask(shape(points, "rectangle")), box(10, 5, 30, 25))


@pytest.mark.parametrize("points", [[[10, 5], [30, 5], [30, 25], [10, 25]], [[20, 5], [30, 15], [20, 25], [10, 15]]])
def test_rectangle_of_four_corners_is_the_box_around_them(points):
    np.testing.assert_array_equal(only_mask(shape(points, "rectangle")), box(10, 5, 30, 25))


def test_oriented_rectangle_has_four_corners():
    points = [[20, 10], [40, 10], [40, 20], [20, 20]]
    np.testing.assert_array_equal(only_mask(shape(points, "oriented_rectangle")), box(20, 10, 40, 20))


@settings(max_examples=40)
@given(
    x=st.floats(-10, WIDTH + 10),
    y=st.floats(-10, HEIGHT + 10),
    radius=st.floats(8, 200),
    angle=st.floats(0, 2 * math.pi),
)
def test_circle_is_given_by_centre_and_rim(x, y, radius, angle):
    points = [[x, y], [x + radius * math.cos(angle), y + radius * math.sin(angle)]]
    across, down = centres()
    expected = np.hypot(across - x, down - y) <= radius
    found = read(shape(points, "circle"))
    actual = mask_of(found.instances[0]) if found.instances else np.zeros_like(expected)
    # pycocotools and a distance from the centre may differ about the pixels that the outline crosses.
    surely = np.abs(np.hypot(across - x, down - y) - radius) > 1
    np.testing.assert_array_equal(actual[surely], expected[surely])


def test_line_has_the_width_that_was_asked_for():
    line = shape([[20, 30], [60, 30]], "line")
    np.testing.assert_array_equal(only_mask(line, line_width=6)[:, 20:60], box(20, 27, 60, 33)[:, 20:60])
    np.testing.assert_array_equal(only_mask(line, line_width=12)[:, 20:60], box(20, 24, 60, 36)[:, 20:60])
    assert only_mask(line, line_width=MAX_COORDINATE).all()


@settings(max_examples=40)
@given(
    points=st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT)), min_size=2, max_size=6),
    line_width=st.integers(3, 15),
)
def test_line_strip_covers_what_is_near_to_it(points, line_width):
    distance = distance_to_line(np.array(points, np.float64))
    surely = np.abs(distance - line_width / 2) > 1
    mask = only_mask(shape(points, "linestrip"), line_width=line_width)
    np.testing.assert_array_equal(mask[surely], (distance < line_width / 2)[surely])


def test_closed_line_strip_keeps_its_hole():
    mask = only_mask(shape([[20, 10], [60, 10], [60, 50], [20, 50], [20, 10]], "linestrip"))
    assert not mask[15:45, 25:55].any()
    assert mask[10, 20:60].all()
    assert mask[10:50, 20].all()


@pytest.mark.parametrize("inside", [1, 255])
def test_mask_lies_with_its_corner_at_the_first_point(inside):
    crop = np.zeros((8, 6), np.uint8)
    crop[2:5, 1:4] = inside
    found = read(shape([[30.4, 20.4], [35, 27]], "mask", mask=png(crop)))
    assert found.instances[0].polygons is None
    np.testing.assert_array_equal(mask_of(found.instances[0]), box(31, 22, 34, 25))


def test_mask_of_one_bit_is_read():
    encoded, content = cv2.imencode(".png", np.full((4, 4), 255, np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert encoded
    data = in_base64(content.tobytes())
    np.testing.assert_array_equal(only_mask(shape([[3, 3], [6, 6]], "mask", mask=data)), box(3, 3, 7, 7))


@pytest.mark.parametrize("corner", [(-3, -2), (WIDTH - 2, HEIGHT - 3), (-3, HEIGHT - 1), (WIDTH - 1, -5)])
def test_mask_over_the_border_is_cut(corner):
    x, y = corner
    mask = only_mask(shape([[x, y], [x + 5, y + 5]], "mask", mask=png(np.ones((6, 6), np.uint8))))
    np.testing.assert_array_equal(mask, box(x, y, x + 6, y + 6))


def test_a_mask_far_larger_than_its_picture_takes_no_more_memory_than_its_pixels():
    data = png(np.full((3000, 3000), 255, np.uint8))
    tracemalloc.start()
    mask = only_mask(shape([[-100, 10], [0, 0]], "mask", mask=data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask[10:].all() and not mask[:10].any() and peak < 3 * 3000 * 3000


@pytest.mark.parametrize("corner", [(-6, 5), (5, -7), (WIDTH, 5), (5, HEIGHT + 3)])
def test_a_mask_outside_of_its_picture_is_left_out(corner):
    outside = shape([corner, corner], "mask", mask=png(np.ones((6, 6), np.uint8)))
    assert read(outside).instances == () and "covers no pixel" in read(outside).left_out[0]


def test_shapes_of_a_group_are_one_instance_and_other_labels_are_not():
    left = shape([[0, 0], [10, 10]], "rectangle", group_id=1)
    right = shape([[20, 0], [30, 10]], "rectangle", group_id=1)
    alone = shape([[0, 20], [10, 30]], "rectangle")
    found = read(left, alone, right, {**right, "label": "dog"}, {**left, "group_id": 2})
    assert [instance.class_name for instance in found.instances] == ["cat", "cat", "dog", "cat"]
    assert len(found.instances[0].polygons) == 2
    np.testing.assert_array_equal(mask_of(found.instances[0]), box(0, 0, 10, 10) | box(20, 0, 30, 10))
    np.testing.assert_array_equal(mask_of(found.instances[2]), box(20, 0, 30, 10))


def test_group_of_polygon_and_mask_is_their_union_as_rle():
    square = shape([[0, 0], [10, 10]], "rectangle", group_id=7)
    mask = shape([[5, 5], [14, 14]], "mask", mask=png(np.ones((10, 10), np.uint8)), group_id=7)
    found = read(square, mask)
    assert len(found.instances) == 1
    assert found.instances[0].polygons is None
    assert found.instances[0].area == 100 + 100 - 25
    np.testing.assert_array_equal(mask_of(found.instances[0]), box(0, 0, 10, 10) | box(5, 5, 15, 15))


def test_points_are_counted_and_ignored_labels_are_not():
    square = [[0, 0], [10, 10]]
    found = read(
        shape([[5, 5]], "point"),
        shape(square, "rectangle", label="__ignore__"),
        shape(square, "rectangle", label="_background_"),
        shape([[5, 5]], "point", label="_background_"),
    )
    assert found == ((), (), 1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("text", "is not a labelme shape"),
        ({"points": [[0, 0], [5, 5]]}, "has no label"),
        (shape([[0, 0], [5, 0], [5, 5]], label=" "), "has no label"),
        (shape([[0, 0], [5, 0], [5, 5]], label=5), "has a label that is no text, 5"),
        (shape([[0, 0], [5, 5]]), "polygon 'cat' has 2 points"),
        (shape([[0, 0], [5, 5], [9, 9]], "rectangle"), "rectangle 'cat' has 3 points"),
        (shape([[0, 0]], "circle"), "circle 'cat' has 1 points"),
        (shape([[5, 5], [5, 5]], "circle"), "has no area in the picture"),
        (shape([[1, 1], [79, 49]] * 20_000), "has an outline of more than 2097152 pixels"),
        (shape([[0, 0], [5, 5]], "cube"), "'cat' is of unknown kind cube"),
        (shape([[0, 0], [5, 5]], "rectangle", label="a\nb"), "has a label with line breaks or control characters"),
        (shape([]), "has no list of points"),
        (shape(None), "has no list of points"),
        (shape([[0, 0], [5]]), "has no list of points"),
        (shape([[0, 0, 0], [5, 5, 5], [5, 0, 0]]), "has no list of points"),
        (shape([[0, 0], [5, math.nan], [5, 0]]), "coordinates that are NaN or far outside"),
        (shape([[0, 0], [5, math.inf], [5, 0]]), "coordinates that are NaN or far outside"),
        (shape([[0, 0], [5, 1e30], [5, 0]]), "coordinates that are NaN or far outside"),
        (shape([[0, 0], [5, 10**400], [5, 0]]), "has no list of points"),
        (shape([[5, 5], [20, 20], [30, 30]]), "covers no pixel"),
        (shape([[90, 5], [99, 5], [99, 50]]), "has no area in the picture"),
        (shape([[0, 0], [5, 5]], "mask"), "mask 'cat' is not in base64"),
        (shape([[0, 0], [5, 5]], "mask", mask="é"), "mask 'cat' is not in base64"),
        (shape([[0, 0], [5, 5]], "mask", mask=""), "mask 'cat' is not a picture with one channel"),
        (shape([[0, 0], [5, 5]], "mask", mask="AAAA"), "mask 'cat' is not a picture with one channel"),
        (
            shape([[0, 0]], "mask", mask=png(np.ones((5, 5, 3), np.uint8))),
            "mask 'cat' is not a picture with one channel",
        ),
        (shape([[0, 0], [5, 5]], "mask", mask=png(np.zeros((5, 5), np.uint8))), "covers no pixel"),
        (shape([[0, 0], [5, 5]], "mask", mask=in_base64(grey_png(100_000, 100_000))), "mask 'cat' cannot be decoded"),
    ],
)
def test_broken_shape_is_named_and_the_others_stay(wrong, reason):
    found = read(shape([[0, 0], [5, 5]], "rectangle"), wrong, shape([[5, 5], [9, 9]], "rectangle"))
    assert len(found.instances) == 2
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("shape 2: ")
    assert reason in found.left_out[0]


def test_rest_of_a_group_stays_when_one_shape_of_it_is_broken():
    found = read(shape([[0, 0], [5, 5]], "rectangle", group_id=1), shape([[0, 0], [0, 0], [0, 0]], group_id=1))
    assert [instance.area for instance in found.instances] == [25]
    assert len(found.left_out) == 1


def test_polygon_that_leaves_and_enters_the_picture_is_cut_at_the_border():
    """The polygon is a letter C across the right border: two arms inside, connected outside."""
    points = [[60, 10], [100, 10], [100, 50], [60, 50], [60, 40], [90, 40], [90, 20], [60, 20]]
    found = read(shape(points))
    np.testing.assert_array_equal(mask_of(found.instances[0]), box(60, 10, 80, 20) | box(60, 40, 80, 50))
    flat = np.array(found.instances[0].polygons[0]).reshape(-1, 2)
    assert flat.min() >= 0
    assert flat[:, 0].max() == WIDTH


def test_outline_that_crosses_itself_is_filled_as_pycocotools_does():
    bow = [[10, 10], [50, 40], [50, 10], [10, 40]]
    expected = filled_pixels(np.array(bow, np.float64))
    np.testing.assert_array_equal(only_mask(shape(bow)), expected)
    assert expected[25, 12]
    assert not expected[12, 30]


corners = st.lists(
    st.tuples(st.integers(-40, WIDTH + 40), st.integers(-40, HEIGHT + 40)), min_size=3, max_size=8, unique=True
)


@settings(max_examples=150)
@given(points=corners)
def test_clipping_changes_nothing_within_the_picture(points):
    """Any outline, also one that crosses itself, has the pixels that pycocotools gives it without clipping."""
    points = np.array(points, np.float64)
    clipped = clip_polygon(points, height=HEIGHT, width=WIDTH)
    part = np.zeros((HEIGHT, WIDTH), bool)
    if len(clipped) >= 3:
        assert clipped.min() >= -1e-9
        assert (clipped.max(axis=0) <= (WIDTH + 1e-9, HEIGHT + 1e-9)).all()
        part = filled_pixels(clipped)
    # New corners on the border are rounded to the raster of pycocotools, which may move the sides that end there.
    surely = distance_to_line(np.concatenate([points, points[:1]])) > 1
    np.testing.assert_array_equal(part[surely], filled_pixels(points)[surely])


@settings(max_examples=100)
@given(
    radii=st.lists(st.floats(10, 28), min_size=5, max_size=20),
    centre=st.tuples(st.floats(28, WIDTH - 28), st.floats(28, HEIGHT - 28)),
)
def test_area_of_a_polygon_is_that_of_its_corners(radii, centre):
    angles = np.arange(len(radii)) * 2 * math.pi / len(radii)
    x, y = centre[0] + np.array(radii) * np.cos(angles), centre[1] + np.array(radii) * np.sin(angles)
    exact = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    circumference = np.hypot(x - np.roll(x, -1), y - np.roll(y, -1)).sum()
    found = read(shape(np.stack((x, y), axis=1).tolist()))
    assert found.instances[0].area == pytest.approx(exact, abs=0.25 * circumference)


def test_picture_that_shapes_do_not_touch_has_no_instances():
    assert read() == ((), (), 0)
