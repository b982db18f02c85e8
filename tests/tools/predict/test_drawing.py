"""Drawings of instances: masks, boxes, labels, colours and sizes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.common import fonts
from tools.common.fonts import find_font, text_color
from tools.predict import drawing
from tools.predict.drawing import (
    MANY,
    PALETTE,
    draw_instances,
    label_texts,
    pick_colors,
    place_label,
    style_for,
)
from tools.predict.instances import Instances


def squares(size: tuple, corners: list, side: int, name: str = "person") -> Instances:
    """Square masks with their upper left corners at (x, y)."""
    masks = np.zeros((len(corners), *size), bool)
    for mask, (x, y) in zip(masks, corners):
        mask[y : y + side, x : x + side] = True
    return Instances.from_masks(masks, np.full(len(corners), 0.87), np.zeros(len(corners)), (name,), (7,))


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_no_instances_give_an_equal_copy():
    image = grey(48, 64)
    drawn = draw_instances(image, squares((48, 64), [], 5))
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_picture_given_is_not_changed_and_the_drawing_is_repeatable():
    image = grey(120, 160)
    found = squares((120, 160), [(10, 40), (20, 50), (100, 70)], 40)
    drawn = draw_instances(image, found)
    assert (image == 128).all()
    assert np.array_equal(drawn, draw_instances(image, found))
    read_only = image[:, ::-1][:, ::-1]
    read_only.flags.writeable = False
    assert np.array_equal(drawn, draw_instances(read_only, found))


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.data())
def test_pictures_of_any_size(height, width, side, data):
    at = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    found = squares((height, width), data.draw(st.lists(at, max_size=4)), side)
    drawn = draw_instances(grey(height, width), found)
    assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)
    assert len(found) == 0 or (drawn != 128).any()


def test_an_empty_mask_is_not_drawn():
    image = grey(100, 100)
    found = Instances.from_masks(np.zeros((1, 100, 100), bool), np.ones(1), np.zeros(1), ("person",), (1,))
    assert np.array_equal(draw_instances(image, found), image)


def test_only_the_box_and_its_label_change():
    drawn = draw_instances(grey(200, 300), squares((200, 300), [(100, 90)], 60))
    y, x = np.nonzero((drawn != 128).any(axis=2))
    assert y.max() <= 150 and x.min() >= 99  # the outline may stick out by half its width
    assert 90 - y.min() < 25  # the label stands on the box


def test_small_instances_lie_on_large_ones_in_their_own_colour():
    size = (200, 200)
    masks = np.zeros((2, *size), bool)
    masks[0, 90:110, 90:110] = True
    masks[1, 20:180, 20:180] = True
    pair = Instances.from_masks(masks, np.array([0.3, 0.9]), np.zeros(2), ("a",), (1,))
    both, small = draw_instances(grey(*size), pair), draw_instances(grey(*size), pair.select([0]))
    assert np.array_equal(both[95:105, 95:105], small[95:105, 95:105])


def test_a_picture_of_another_size_or_type_is_refused():
    found = squares((40, 50), [(3, 3)], 9)
    with pytest.raises(ValueError, match="50, 40"):
        draw_instances(grey(50, 40), found)
    with pytest.raises(ValueError, match="float32"):
        draw_instances(grey(40, 50).astype(np.float32), found)


def test_meeting_boxes_have_different_colours():
    x = np.arange(40) * 10
    chain = np.stack([x, x * 0, x + 15, x * 0 + 20], axis=1).astype(np.int32)  # each meets the one before and after
    colors = pick_colors(chain)
    assert (colors[1:] != colors[:-1]).any(axis=1).all()
    assert len(np.unique(pick_colors(np.tile(chain[:1], (12, 1))), axis=0)) == len(PALETTE)
    assert pick_colors(chain[:0]).shape == (0, 3)


def test_the_palette_is_bright_and_well_separated():
    colors = PALETTE.astype(int)
    lab = cv2.cvtColor(PALETTE[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    differences = np.linalg.norm(lab[:, None] - lab[None], axis=2)  # CIE 1976; 2.3 is just noticeable
    assert differences[np.triu_indices(len(lab), 1)].min() > 25
    assert np.linalg.norm(lab[1:] - lab[:-1], axis=1).min() > 60
    assert (colors.max(axis=1) >= 190).all()
    assert (colors.max(axis=1) - colors.min(axis=1) >= 110).all()


@settings(max_examples=200)
@given(st.tuples(*[st.integers(0, 100)] * 4), st.integers(1, 60), st.integers(1, 90), st.integers(0, 6))
def test_labels_stay_inside_the_picture(corners, height, width, others):
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    obstacles = np.random.default_rng(others).integers((0, 0, 50, 50), (50, 50, 100, 100), (others, 4))
    x, y = place_label(np.array([x1, y1, x2, y2]), (height, width), (100, 100), obstacles, obstacles)
    assert 0 <= x <= 100 - width and 0 <= y <= 100 - height


def test_labels_stand_above_then_inside_then_below():
    box, tag, picture, none = np.array([100, 100, 200, 200]), (20, 60), (400, 400), np.zeros((0, 4), int)
    labels = none
    for expected in [(100, 80), (100, 100), (100, 200)]:
        x, y = place_label(box, tag, picture, labels, none)
        assert (x, y) == expected
        labels = np.vstack([labels, (x, y, x + 60, y + 20)])
    assert place_label(np.array([0, 0, 50, 50]), tag, picture, none, none) == (0, 0)


def test_labels_give_way_to_a_small_neighbour():
    box, tag, picture, none = np.array([100, 100, 200, 200]), (20, 60), (400, 400), np.zeros((0, 4), int)
    neighbour = np.array([110, 85, 120, 95])
    assert place_label(box, tag, picture, none, np.stack([box, neighbour])) != (100, 80)


def test_a_label_says_what_fits():
    """A picture of 30 pixels has no room for 'person 0.87'; one of 5 has none for any text."""
    wide, narrow, tiny = (
        drawing._widest_tag(label_texts("person", 7, 0.87), 9, (255, 0, 0), size)
        for size in [(100, 100), (100, 38), (5, 5)]
    )
    assert wide.shape[1] > 38 >= narrow.shape[1]
    assert tiny is None


def test_a_name_that_no_font_can_write_becomes_its_category_id(monkeypatch):
    monkeypatch.setattr(fonts, "FALLBACK_FONTS", ())
    assert label_texts("汽车", 7, 0.5)[0] == "#7 0.50"
    assert label_texts("traffic light", 7, 0.5)[0] == "traffic light 0.50"
    assert label_texts("traffic light", 7, float("nan")) == ("traffic light", "#7")
    assert find_font("汽车") is None
    draw_instances(grey(100, 100), squares((100, 100), [(20, 40)], 30, name="汽车"))


@settings(max_examples=60)
@given(
    st.one_of(
        st.text(max_size=8), st.sampled_from(["", " ", "a\nb", "\ud800", "naïve", "кот", "مركبة", "e\u0301", "🐕"])
    )
)
def test_any_name_can_be_drawn(name):
    draw_instances(grey(60, 200), squares((60, 200), [(20, 30)], 20, name=name))


def test_text_is_legible_on_every_colour_of_the_palette():
    assert text_color((255, 255, 0)) == (0, 0, 0)
    assert text_color((0, 0, 120)) == (255, 255, 255)
    for color in PALETTE.tolist():
        brightness = np.dot(color, (0.299, 0.587, 0.114))
        assert abs(brightness - np.dot(text_color(tuple(color)), (0.299, 0.587, 0.114))) > 90


def test_lines_and_letters_grow_and_the_tint_pales_with_the_picture():
    small, middle, large = (style_for(size, 9) for size in ((64, 64), (480, 640), (4000, 6000)))
    assert 1 <= small.outline < middle.outline < large.outline
    assert 9 <= small.font < middle.font < large.font
    assert small.alpha > middle.alpha > large.alpha


@pytest.mark.parametrize("count", [MANY - 1, MANY])
def test_many_instances_have_no_boxes_and_labels_and_thin_outlines(count):
    corners = [(12 * (i % 10), 12 * (i // 10)) for i in range(count)]
    masks = np.zeros((count, 120, 120), bool)
    for mask, (x, y) in zip(masks, corners):
        mask[y : y + 9, x + 4] = mask[y + 4, x : x + 9] = True  # a cross, whose box has empty corners
    found = Instances.from_masks(masks, np.full(count, 0.9), np.zeros(count), ("cell",), (1,))
    changed = (draw_instances(grey(120, 120), found) != 128).any(axis=2)
    assert changed[masks.any(axis=0)].all()
    assert changed[:9, :9][0, 0] == (count < MANY)  # a corner of a box


def test_neighbours_among_hundreds_have_different_colours():
    corners = [(12 * (i % 15), 12 * (i // 15)) for i in range(225)]
    boxes = np.array([(x, y, x + 9, y + 9) for x, y in corners], np.int32)
    colors = pick_colors(boxes)
    gaps = np.abs(boxes[:, None, :2] - boxes[None, :, :2]).max(axis=2)
    same = (colors[:, None] == colors[None]).all(axis=2)
    assert not (same & (gaps > 0) & (gaps <= 12)).any()
