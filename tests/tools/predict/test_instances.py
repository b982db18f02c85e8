"""Instances: RLE, masks, boxes, polygons, selection and COCO rows."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask

from config.errors import InputError
from data.images import read_image, write_image
from tools.predict.instances import Instances, NetworkBoxes

NAMES = ("person", "dog", "kite")
IDS = (1, 18, 38)


def of(masks: np.ndarray) -> Instances:
    """Instances with descending scores and classes 0, 1, 2, 0, ..."""
    n = len(masks)
    return Instances.from_masks(masks, np.linspace(0.9, 0.1, n), np.arange(n) % 3, NAMES, IDS)


def disk(size: int, radius: float, hole: float = 0) -> np.ndarray:
    """A disk, or a ring, in the middle of a square picture, bool [1, size, size]."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(x, y)
    return ((distance <= radius) & (distance >= hole))[None]


def raster(polygons: list, size: tuple) -> np.ndarray:
    """The mask that pycocotools makes of polygons."""
    if not polygons:
        return np.zeros(size, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))).astype(bool)


@st.composite
def pictures(draw) -> np.ndarray:
    """Masks of one picture, bool [n, H, W]: noise, and rectangles that reach the borders, the corners, or nothing."""
    n, height, width = draw(st.integers(0, 4)), draw(st.integers(1, 17)), draw(st.integers(1, 17))
    masks = np.zeros((n, height, width), bool)
    for mask in masks:
        y1, y2 = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
        x1, x2 = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
        mask[y1:y2, x1:x2] = draw(st.one_of(st.just(True), arrays(bool, (y2 - y1, x2 - x1))))
    return masks


@settings(max_examples=300)
@given(pictures())
def test_rle_is_what_pycocotools_encodes_from_the_full_masks(masks):
    expected = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    assert of(masks).to_rle() == [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in expected]


@pytest.mark.parametrize(
    "rows, columns",
    [
        (slice(0, 0), slice(0, 0)),
        (slice(None), slice(None)),
        (slice(0, 1), slice(None)),
        (slice(-1, None), slice(None)),
        (slice(None), slice(0, 1)),
        (slice(None), slice(-1, None)),
        (slice(0, 1), slice(0, 1)),
        (slice(-1, None), slice(-1, None)),
        (slice(20, 21), slice(30, 31)),
        (slice(None), slice(10, 60)),
    ],
    ids=["empty", "full", "top", "bottom", "left", "right", "first", "last", "pixel", "strip"],
)
def test_rle_at_the_borders_of_a_picture(rows, columns):
    mask = np.zeros((480, 640), np.uint8)
    mask[rows, columns] = 1
    found = of(mask[None])
    assert found.to_rle()[0]["counts"] == coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    assert np.array_equal(found.masks[0], mask)


@settings(max_examples=100)
@given(pictures())
def test_masks_come_back_and_boxes_are_tight(masks):
    found = of(masks)
    assert np.array_equal(found.masks, masks)
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.int32, np.float32, np.int64)
    for mask, box, crop in zip(masks, found.boxes.tolist(), found.crops):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max() + 1, y.max() + 1] if mask.any() else [0, 0, 0, 0])
        assert crop.dtype == bool


def test_any_nonzero_byte_is_foreground_and_crops_do_not_share_memory():
    masks = np.array([[[0, 255], [7, 0]]], np.uint8)
    found = of(masks)
    masks[:] = 0
    assert np.array_equal(found.masks, [[[False, True], [True, False]]])
    with pytest.raises(ValueError, match="float32"):
        of(masks.astype(np.float32))


def test_no_instances():
    found = of(np.zeros((0, 30, 40), bool))
    assert len(found) == 0
    assert found.size == (30, 40)
    assert found.masks.shape == (0, 30, 40)
    assert found.to_rle() == found.to_polygons() == found.to_coco(7, polygons=True) == []
    assert len(found.select(found.scores >= 0.5)) == 0


def test_select_by_score_and_by_index():
    masks = np.eye(3, dtype=bool)[:, None]  # three pictures of 1x3 with one pixel each
    found = of(masks)
    sure = found.select(found.scores >= 0.5)
    assert np.array_equal(sure.masks, masks[:2])
    assert sure.class_names == NAMES
    turned = found.select([2, 0])
    assert turned.classes.tolist() == [2, 0]
    assert np.array_equal(turned.masks, masks[[2, 0]])
    assert len(found.select([])) == 0


def test_indexing_and_iteration():
    masks = np.eye(4, dtype=bool)[:, None]
    found = of(masks)  # scores 0.9 to 0.1
    selections = {"mask": found.scores > 0.5, "list": [True, True, False, False], "indices": np.array([0, 1])}
    for keep in (*selections.values(), slice(2), slice(None, -2)):
        assert np.array_equal(found[keep].masks, masks[:2])
    assert np.array_equal(found[-1].masks, masks[3:]) and np.array_equal(found[np.int64(2)].masks, masks[2:3])
    assert len(found[[]]) == len(found[found.scores > 1]) == 0
    for wrong in (4, -5, [True, False], [0, 4]):
        with pytest.raises(IndexError):
            found[wrong]
    singles = list(found)
    assert [len(single) for single in singles] == [1] * 4
    assert np.array_equal(np.concatenate([single.masks for single in singles]), masks)
    assert found.names == ["person", "dog", "kite", "person"]
    assert [single.names for single in singles] == [[name] for name in found.names]


def test_indexing_keeps_the_boxes_of_the_network():
    found = of(np.eye(3, dtype=bool)[:, None])
    boxes = NetworkBoxes(np.arange(12, dtype=np.float32).reshape(3, 4), np.float32([0.1, 0.2, 0.3]))
    chosen = replace(found, network_boxes=boxes)[2]
    assert chosen.network_boxes.boxes.tolist() == [[8, 9, 10, 11]]
    assert chosen.network_boxes.scores.tolist() == [np.float32(0.3)]


def test_repr_is_one_short_line():
    found = of(np.ones((4, 2, 3), bool))
    assert repr(found) == "<Instances: 4 in 3 x 2 pixels: 2 person, 1 dog, 1 kite>"
    assert repr(found[:0]) == "<Instances: 0 in 3 x 2 pixels>"
    names = tuple(f"two\nlines {number}" * 50 for number in range(80))
    many = Instances.from_masks(np.ones((80, 2, 3), bool), np.ones(80), np.arange(80), names, range(80))
    assert "\n" not in repr(many) and len(repr(many)) < 1200 and repr(many).endswith("and 72 more>")


def test_rows_and_masks_must_agree():
    found = of(disk(9, 3))
    with pytest.raises(ValueError, match="one row per mask"):
        Instances(found.size, found.boxes, found.crops, found.scores[:0], found.classes, NAMES, IDS)
    with pytest.raises(ValueError, match="in the box"):
        Instances(found.size, found.boxes + [0, 0, 0, 1], found.crops, found.scores, found.classes, NAMES, IDS)
    with pytest.raises(ValueError, match="category ids"):
        Instances(found.size, found.boxes, found.crops, found.scores, found.classes, NAMES, IDS[:2])


@settings(max_examples=200)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_polygons_rasterise_to_the_mask_with_its_holes_filled(mask):
    """However ragged the mask; a hole is background without a way to the border along sides of pixels."""
    reached = np.pad(mask, 1).astype(np.uint8)
    cv2.floodFill(reached, None, (0, 0), 2)
    assert np.array_equal(raster(of(mask[None]).to_polygons()[0], mask.shape), reached[1:-1, 1:-1] != 2)


def test_polygons_of_a_disk_of_a_ring_and_of_nothing():
    whole, ring = disk(101, 40), disk(101, 40, hole=20)
    assert np.array_equal(raster(of(whole).to_polygons()[0], (101, 101)), whole[0])
    assert np.array_equal(raster(of(ring).to_polygons()[0], (101, 101)), whole[0])
    assert of(np.zeros((1, 5, 5), bool)).to_polygons() == [[]]


def test_polygons_of_one_pixel_and_of_two_parts():
    mask = np.zeros((1, 6, 9), bool)
    mask[0, 2, 3] = mask[0, 4:, 7] = True
    corners = [sorted(zip(p[::2], p[1::2])) for p in of(mask).to_polygons()[0]]
    assert sorted(corners) == [[(3, 2), (3, 3), (4, 2), (4, 3)], [(7, 4), (7, 6), (8, 4), (8, 6)]]


def test_coco_rows():
    masks = np.zeros((2, 6, 9), bool)
    masks[0, 1:3, 2:7] = True
    masks[1, 5, 8] = True
    rows = of(masks).to_coco(image_id=42, polygons=True)
    assert [row["category_id"] for row in rows] == [1, 18]
    assert [row["image_id"] for row in rows] == [42, 42]
    assert rows[0]["bbox"] == [2, 1, 5, 2]
    assert all(type(value) is float for row in rows for value in [row["score"], *row["bbox"]])
    assert [coco_mask.area(row["segmentation"]) for row in rows] == [10, 1]
    assert sorted(zip(rows[0]["polygons"][0][::2], rows[0]["polygons"][0][1::2])) == [(2, 1), (2, 3), (7, 1), (7, 3)]
    assert "polygons" not in of(masks).to_coco(image_id=42)[0]


def test_draw_is_a_picture_of_the_same_size():
    image = np.zeros((40, 40, 3), np.uint8)
    drawn = of(disk(40, 12)).draw(image)
    assert drawn.shape == image.shape
    assert drawn.any()


def test_save_writes_the_drawing_on_any_form_of_the_picture(tmp_path):
    image, found = np.full((40, 40, 3), 99, np.uint8), of(disk(40, 12))
    photo = tmp_path / "photo.png"
    write_image(photo, image)
    for number, picture in enumerate((image, photo, str(photo), Image.fromarray(image))):
        path = tmp_path / "new" / f"{number}.png"
        found.save(path, picture)
        found.save(str(path), picture)
        assert np.array_equal(read_image(path), found.draw(image))
    with pytest.raises(InputError, match="is read too"):
        found.save(photo, photo)
    with pytest.raises(InputError, match="not written by this project"):
        found.save(photo, image)
    with pytest.raises(InputError, match="not a picture format"):
        found.save(tmp_path / "drawing.txt", image)
    assert np.array_equal(read_image(photo), image)


@pytest.mark.parametrize("count", [0, 3])
def test_supervision_gets_masks_boxes_scores_and_names(count):
    pytest.importorskip("supervision")
    found = of(np.repeat(disk(21, 7), count, axis=0))
    detections = found.to_supervision()
    assert len(detections) == count
    np.testing.assert_array_equal(detections.mask, found.masks)
    np.testing.assert_array_equal(detections.xyxy, found.boxes)
    np.testing.assert_array_equal(detections.area, found.masks.sum((1, 2)))
    np.testing.assert_array_equal(detections.confidence, found.scores)
    assert detections.class_id.tolist() == found.classes.tolist()
    assert detections["class_name"].tolist() == found.names


def test_a_missing_package_for_detections_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        of(disk(21, 7)).to_supervision()
