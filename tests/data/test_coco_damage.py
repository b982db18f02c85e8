"""Damaged COCO annotation files: what is left out and counted, and what is still usable."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import InputError
from data.coco import decode_mask
from tests.support.coco_files import COMPRESSED, DISC, HEIGHT, PICTURE, SQUARE, WIDTH, read, rle, runs_of, valid_content

MISSING = object()
PIXELS = HEIGHT * WIDTH

# The wording of a problem, the index of the damaged annotation (0: polygon, 2: RLE), its key, and impossible values.
ANNOTATION_DAMAGES = [
    ("without an integer id", 0, "id", [MISSING, None, "100", True, 1.5, [], math.nan]),
    ("of an unknown image", 0, "image_id", [MISSING, None, 77, "5", [5], {}]),
    ("of an unknown category", 0, "category_id", [MISSING, None, 2, "7", {}]),
    ("with an iscrowd that is neither 0 nor 1", 0, "iscrowd", [2, -1, "1", [1]]),
    ("without a segmentation", 0, "segmentation", [MISSING, None, [], "polygon", 3, True]),
    (
        "with a polygon that is not a list of numbers",
        0,
        "segmentation",
        [SQUARE, ["123456"], [["1"] * 8], [[None] * 8], [[[1, 2], [3, 4], [5, 6]]], [SQUARE, 5], [[10**400] * 6]],
    ),
    (
        "whose polygons have fewer than 3 points or an odd number of coordinates",
        0,
        "segmentation",
        [[[]], [{}], [[10, 10, 20, 20]], [SQUARE[:7]], [[1], [2]]],
    ),
    (
        "with coordinates that are NaN or far outside",
        0,
        "segmentation",
        [[[*SQUARE[:-1], far]] for far in (math.nan, math.inf, -math.inf, 1e9, 1e308, -WIDTH - 1, 2 * WIDTH + 1)],
    ),
    (
        "whose outline is longer than 2097152 pixels",
        0,
        "segmentation",
        [[[1, 1, WIDTH, 30] * 20_000], [SQUARE, *[[1, 1, WIDTH, 30] * 10_000] * 2]],
    ),
    (
        "whose polygons cover no pixel",
        0,
        "segmentation",
        [[[10, 10] * 4], [[10, 11, 20, 21, 30, 31]], [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]], [[10, 10] * 4, [1, 1] * 3]],
    ),
    (
        "with an RLE whose size is not the picture's",
        2,
        "segmentation",
        [rle(COMPRESSED, (WIDTH, HEIGHT)), rle(COMPRESSED, ()), {"counts": COMPRESSED}, {"size": "40", "counts": ""}],
    ),
    (
        "with an RLE whose runs do not fill the picture",
        2,
        "segmentation",
        [
            rle(counts)
            for counts in (
                *(None, 5, "", [], {}, "ü", "\ud800", " ", "~", COMPRESSED[:-1], COMPRESSED + "1", "o" * 40, "N"),
                *([PIXELS - 1], [-1, PIXELS + 1], [9, -5, PIXELS - 4], [str(PIXELS)], [PIXELS - 0.5, 0.5], [[PIXELS]]),
                *([10**30], [2**62] * 4 + [PIXELS], [10**400], [math.nan, PIXELS], [math.inf, -math.inf]),
            )
        ],
    ),
    ("whose RLE covers no pixel", 2, "segmentation", [rle([PIXELS]), rle([PIXELS, 0])]),
    (
        "with a bbox that is not four numbers",
        0,
        "bbox",
        [[1, 2, 3], [1, 2, 3, 4, 5], "1234", [1, 2, "3", 4], [1, 2, None, 4], 7, False, {}, [10**400] * 4],
    ),
    (
        "with a bbox without area in the picture",
        0,
        "bbox",
        [
            *([10, 10, 0, 10], [10, 10, 10, -5], [WIDTH, 10, 5, 5], [-9, 10, 9, 9], [0, 0, 0, 0]),
            *([0, 0, math.inf, 5], [math.nan, 1, 2, 2], [0, 0, 5, math.nan], [1e308] * 4),
        ],
    ),
]


def damaged_content(row: int, **values: object) -> dict:
    """Return the small file with other values in one annotation."""
    content = valid_content()
    for key, value in values.items():
        content["annotations"][row][key] = value
        if value is MISSING:
            del content["annotations"][row][key]
    return content


@pytest.mark.parametrize(
    ("what", "row", "key", "value"),
    [(what, row, key, value) for what, row, key, values in ANNOTATION_DAMAGES for value in values],
)
def test_a_damaged_annotation_is_counted_and_left_out(tmp_path, what, row, key, value):
    coco = read(tmp_path, damaged_content(row, **{key: value}))
    assert coco.instances == 3
    (line,) = coco.problems.lines()
    assert line.startswith(f"1 annotation {what}") and "left out" in line


def append_to(key: str, value: object) -> Callable[[dict], None]:
    return lambda content: content[key].append(value)


def repeated_annotation(**values: object) -> Callable[[dict], None]:
    """Return the first annotation again with some other values."""
    return lambda content: content["annotations"].append({**content["annotations"][0], **values})


def crowd(**values: object) -> dict:
    return {**valid_content()["annotations"][4], "id": 1, **values}


def picture(row: int, **values: object) -> Callable[[dict], None]:
    return lambda content: content["images"][row].update(values)


@pytest.mark.parametrize(
    ("says", "damage", "pictures", "instances"),
    [
        ("1 annotation without an integer id", append_to("annotations", ["no object"]), 3, 4),
        ("1 annotation with the id, category and bbox of an earlier one, left out", repeated_annotation(), 3, 4),
        ("1 annotation with the id of another one, kept", repeated_annotation(image_id=2), 3, 5),
        (
            "1 annotation with the id of another one, kept",
            repeated_annotation(category_id=3, bbox=[10, 10, 9, 9]),
            3,
            5,
        ),
        (
            "1 annotation with a bbox that does not match its mask: training takes the mask's, box AP the file's",
            repeated_annotation(id=1, category_id=3, bbox=[10, 10, 20, 20.5]),  # x1, y1, x2, y2
            3,
            5,
        ),
        (
            "1 annotation with a bbox that does not match its mask",
            repeated_annotation(id=1, category_id=3, bbox=[40, 30, 10, 10]),
            3,
            5,
        ),
        *(
            (
                "1 annotation with an area that is not a number of pixels",
                repeated_annotation(id=1, category_id=3, area=area),
                3,
                5,
            )
            for area in ("9", [9], math.nan, math.inf, -1, True, 10**400)
        ),
        (
            "1 annotation whose polygons cover no pixel",
            repeated_annotation(id=1, segmentation=[[70, 9, 80, 9, 80, 19]]),
            3,
            4,
        ),
        ("1 annotation without a segmentation", append_to("annotations", crowd(segmentation=None)), 3, 4),
        ("1 annotation with an RLE whose runs", append_to("annotations", crowd(segmentation=rle("N"))), 3, 4),
        ("1 annotation of an unknown category", append_to("annotations", crowd(category_id=2)), 3, 4),
        (
            "1 annotation with the id, category and bbox of an earlier one",
            append_to("annotations", crowd(id=104)),
            3,
            4,
        ),
        (
            "1 annotation kept without its damaged polygons",
            repeated_annotation(id=1, category_id=3, segmentation=[[1, 2, 3, 4], SQUARE]),
            3,
            5,
        ),
        ("1 image with the id of an earlier one", append_to("images", valid_content()["images"][0]), 3, 4),
        ("1 image without an integer id", append_to("images", None), 3, 4),
        ("1 image without an integer id", picture(2, id="9"), 2, 4),
        ("1 image without a file_name", picture(2, file_name=None), 2, 4),
        ("1 image without a file_name", picture(2, file_name=""), 2, 4),
        ("1 image without a file_name", picture(2, file_name="a\0b.jpg"), 2, 4),
        ("1 image without a usable height and width", picture(2, height="40"), 2, 4),
        ("1 image without a usable height and width", picture(2, width=0), 2, 4),
        ("1 image without a usable height and width", picture(2, width=-60, height=-40), 2, 4),
        ("1 image without a usable height and width", picture(2, width=10**6, height=10**6), 2, 4),
        ("1 image not found in", picture(0, file_name="gone.jpg"), 2, 1),
        ("1 image not found in", picture(2, file_name="\ud800/9.jpg"), 2, 4),
        ("1 image not found in", picture(2, file_name="C:\\pictures\\9.jpg"), 2, 4),
        ("1 category without a name", append_to("categories", {"id": 4}), 3, 4),
        ("1 category without an integer id", append_to("categories", {"id": "4", "name": "cap"}), 3, 4),
        ("1 category without an integer id", append_to("categories", "cap"), 3, 4),
        ("1 category with the id and name of an earlier one", append_to("categories", {"id": 1, "name": "cat"}), 3, 4),
        ("1 category with the name of an earlier one, kept", append_to("categories", {"id": 0, "name": "ring"}), 3, 4),
    ],
)
def test_other_damages_are_counted(tmp_path, says, damage, pictures, instances):
    content = valid_content()
    damage(content)
    coco = read(tmp_path, content)
    (line,) = coco.problems.lines()
    assert line.startswith(says)
    assert (coco.pictures, coco.instances) == (pictures, instances)
    line.encode()  # printable, whatever the names in the file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "1 image that cannot be read, left out: {file} image 9 '9.jpg' (empty file)"),
        (b"<html>", "1 image that cannot be read, left out: {file} image 9 '9.jpg' (not a picture"),
        (PICTURE[:40], "1 image that cannot be read, left out: {file} image 9 '9.jpg' (truncated or damaged JPEG"),
        (PICTURE[:-9], "1 image that cannot be read, left out: {file} image 9 '9.jpg' (truncated or damaged JPEG"),
        (None, "1 image that cannot be read, left out: {file} image 9 '9.jpg' (a folder, not a picture)"),
        (
            cv2.imencode(".png", np.zeros((WIDTH, HEIGHT), np.uint8))[1].tobytes(),
            "1 image of another size than annotated, left out: {file} image 9 '9.jpg' (40 x 60, annotated 60 x 40)",
        ),
    ],
    ids=["empty", "no picture", "cut off", "without its end", "a folder", "another size"],
)
def test_damaged_pictures_are_counted_and_left_out(tmp_path, content, says):
    path = tmp_path / "pictures" / "9.jpg"
    path.parent.mkdir()
    path.mkdir() if content is None else path.write_bytes(content)
    coco = read(tmp_path, valid_content(), pictures=("5.jpg", "2.jpg"), keep_empty=True)
    (line,) = coco.problems.lines()
    assert line.startswith(says.format(file=tmp_path / "train.json"))
    assert [record.image_id for record in coco.records] == [5, 2]


def test_a_bbox_that_does_not_fit_its_mask_is_kept(tmp_path):
    (record, _) = read(tmp_path, damaged_content(0, bbox=[10, 10, 20, 20.5])).records
    assert record.annotations[0].box == (10, 10, 20, 20.5)
    assert record.annotations[0].bbox == (10, 10, 20, 20.5)  # x, y, width, height


def test_counts_of_an_rle_may_be_floats(tmp_path):
    content = damaged_content(3, segmentation=rle([float(run) for run in runs_of(DISC)]))
    coco = read(tmp_path, content)
    assert (coco.instances, coco.problems.lines()) == (4, [])
    assert np.array_equal(decode_mask(coco.records[0].annotations[2], HEIGHT, WIDTH).to_full(HEIGHT, WIDTH), DISC)


def test_crowds_are_kept_apart_in_the_order_of_the_file(tmp_path):
    content = valid_content()
    content["annotations"].insert(0, crowd(image_id=5))
    content["annotations"].append(crowd(id=2, image_id=5))
    coco = read(tmp_path, content)
    order = [(annotation.id, is_crowd) for annotation, is_crowd in coco.records[0].in_file_order()]
    assert order == [(1, True), (100, False), (102, False), (103, False), (2, True)]
    assert (coco.instances, coco.crowds, coco.left_out) == (4, 3, 0)


def test_annotations_of_a_dropped_picture_are_not_counted_as_problems(tmp_path):
    content = valid_content()
    content["images"][0]["height"] = None
    coco = read(tmp_path, content)
    assert (coco.pictures, coco.instances, coco.crowds, len(coco.problems.lines())) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("values", "box"),
    [
        ({"bbox": MISSING}, (10, 10, 20, 20.5)),
        ({"bbox": []}, (10, 10, 20, 20.5)),
        ({"bbox": None, "segmentation": [[5, 5, 15, 5, 15, 15], [-10, 20, 70, 20, 70, 30]]}, (0, 5, 60, 30)),
        ({"bbox": None, "segmentation": rle(COMPRESSED)}, (21, 11, 40, 30)),
        ({"bbox": [-5, -5, 100, 100.5], "segmentation": [[1, 1, 59, 1, 59, 39]]}, (0, 0, 60, 40)),
        ({"bbox": [50, 30.5, 100, 100], "segmentation": [[50, 30, 90, 30, 90, 70]]}, (50, 30.5, 60, 40)),
    ],
    ids=["missing", "empty", "missing, several polygons", "missing, RLE", "around the picture", "over a corner"],
)
def test_boxes_are_completed_and_clipped(tmp_path, values, box):
    coco = read(tmp_path, damaged_content(0, **values))
    assert not coco.problems.lines()
    assert coco.records[0].annotations[0].box == box


@pytest.mark.parametrize("values", [{"iscrowd": MISSING}, {"iscrowd": False}, {"area": MISSING}, {"id": 100.0}])
def test_unneeded_fields_may_be_missing(tmp_path, values):
    coco = read(tmp_path, damaged_content(0, **values))
    assert (coco.instances, coco.problems.lines()) == (4, [])


def test_a_figure_of_eight_has_pixels_although_its_area_cancels_out(tmp_path):
    coco = read(tmp_path, damaged_content(0, bbox=None, segmentation=[[10, 10, 30, 30, 30, 10, 10, 30]]))
    assert coco.problems.lines() == []
    assert decode_mask(coco.records[0].annotations[0], HEIGHT, WIDTH).area > 100


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, 1, 5, 7, -1]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: object) -> list[tuple[object, object]]:
    """Yield all (container, key) pairs of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_usable_records_or_an_input_error(tmp_path: Path, data):
    content = valid_content()
    for _ in range(data.draw(st.integers(1, 4))):
        container, key = data.draw(st.sampled_from(places(content)))
        if data.draw(st.booleans()):
            container[key] = data.draw(JUNK)
        else:
            del container[key]
    try:
        coco = read(tmp_path, content, keep_empty=True)
    except InputError as error:
        assert "\n" not in str(error)
        return
    str(coco.problems).encode()
    assert coco.instances == sum(len(record.annotations) for record in coco.records)
    for record in coco.records:
        for one in record.annotations:
            x1, y1, x2, y2 = one.box
            assert 0 <= one.class_index < len(coco.classes)
            assert 0 <= x1 < x2 <= record.width and 0 <= y1 < y2 <= record.height
            assert decode_mask(one, record.height, record.width).to_full(record.height, record.width).any()
