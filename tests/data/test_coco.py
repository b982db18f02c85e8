"""COCO annotation files: records, masks, and the wording of problems."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from config.base import PROJECT, Config
from config.coco_layout import CONFIG_REMEDIES, OPTION_REMEDIES
from config.errors import LONGEST, SHOWN, InputError
from data.class_lists import ClassList, read_class_list
from data.coco import Annotation, check_same_classes, decode_mask, read_coco
from data.coco_checks import parse_runs
from tests.support.coco_files import DISC, HEIGHT, PICTURE, SQUARE, TRIANGLE, WIDTH, read, runs_of, valid_content
from tests.support.parity import COCO_TINY, needs_coco


def test_a_file_without_problems(tmp_path):
    coco = read(tmp_path, valid_content())
    assert coco.classes == ClassList(names=("cat", "dog", "ring"), ids=(1, 3, 7))
    assert (coco.pictures, coco.instances, coco.crowds, coco.empty) == (3, 4, 1, 1)
    assert str(coco.problems) == ""
    first, second = coco.records
    assert (first.image_id, first.file_name, first.height, first.width) == (5, "5.jpg", HEIGHT, WIDTH)
    assert first.path == tmp_path / "pictures" / "5.jpg"
    assert [(one.id, one.class_index, one.box) for one in first.annotations] == [
        (100, 2, (10, 10, 20, 20.5)),
        (102, 1, (21, 11, 40, 30)),
        (103, 0, (21, 11, 40, 30)),
    ]
    for annotation in first.annotations[1:]:
        assert np.array_equal(decode_mask(annotation, HEIGHT, WIDTH).to_full(HEIGHT, WIDTH), DISC)
    assert [polygon.tolist() for polygon in second.annotations[0].segmentation] == [SQUARE, TRIANGLE]


def test_pictures_without_instances_are_kept_if_wanted(tmp_path):
    coco = read(tmp_path, valid_content(), keep_empty=True)
    assert [(record.image_id, len(record.annotations)) for record in coco.records] == [(5, 3), (2, 1), (9, 0)]


def test_a_file_of_test_pictures_has_no_annotations(tmp_path):
    content = valid_content()
    del content["annotations"]
    assert len(read(tmp_path, content, keep_empty=True).records) == 3
    with pytest.raises(InputError, match="has no list of annotations; give a COCO annotation file"):
        read(tmp_path, content)


def test_a_line_counts_a_kind_of_problem_and_names_the_first_ones(tmp_path):
    content = valid_content()
    content["annotations"] += [{"id": number, "image_id": 4} for number in range(SHOWN)]
    assert read(tmp_path, content).problems.lines() == [
        f"{SHOWN} annotations of an unknown image, left out: "
        f"{tmp_path / 'train.json'} annotation 0, 1, 2, 3, 4, 5, 6, 7"
    ]
    content["annotations"].append({"image_id": 4, "id": 8})
    content["annotations"].append({"image_id": 4})
    assert str(read(tmp_path, content).problems).splitlines() == [
        "9 annotations of an unknown image, left out: "
        f"{tmp_path / 'train.json'} annotation 0, 1, 2, 3, 4, 5, 6, 7 and 1 more",
        f"1 annotation without an integer id, left out: {tmp_path / 'train.json'} annotation at index 14",
    ]  # fmt: skip


def test_names_with_folders(tmp_path):
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    for file in ("pictures/a/5.jpg", "beside.jpg", "elsewhere.jpg"):
        (tmp_path / file).write_bytes(PICTURE)
    content = valid_content()
    for row, name in zip(content["images"], ("a\\5.jpg", "../beside.jpg", str(tmp_path / "elsewhere.jpg"))):
        row["file_name"] = name
    coco = read(tmp_path, content, pictures=(), keep_empty=True)
    assert [record.path.name for record in coco.records] == ["5.jpg", "beside.jpg", "elsewhere.jpg"]
    assert all(record.path.is_file() for record in coco.records)
    assert coco.records[0].file_name == "a\\5.jpg"


def test_without_pictures_the_folder_and_the_field_are_named(tmp_path):
    with pytest.raises(InputError, match="none of its 3 pictures.*'5.jpg', '2.jpg', '9.jpg'.*train_pre_path") as error:
        read(tmp_path, valid_content(), pictures=())
    assert str(tmp_path / "pictures") in str(error.value) and str(tmp_path / "train.json") in str(error.value)
    assert read(tmp_path, valid_content(), pictures=(), check_files=False).pictures == 3


def test_messages_name_the_options_of_programs_without_a_config(tmp_path):
    with pytest.raises(InputError, match="; give the folder of the pictures with --pictures$"):
        read(tmp_path, valid_content(), pictures=(), remedies=OPTION_REMEDIES)
    with pytest.raises(InputError, match="No such file or directory.; give a COCO annotation file with --annotations$"):
        read_coco(tmp_path / "none.json", tmp_path, remedies=OPTION_REMEDIES)


def test_long_names_are_shortened_in_the_middle(tmp_path):
    content = valid_content()
    for row in content["images"]:
        row["file_name"] = "first/" + "x" * 5000 + ".jpg"
    with pytest.raises(InputError, match="looked for 'first/x+ [.]{3} x+.jpg', ") as error:
        read(tmp_path, content)
    assert len(str(error.value)) < 4 * LONGEST + 4 * len(str(tmp_path)) + len(CONFIG_REMEDIES.pictures)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        (json.dumps(valid_content())[:500], "not JSON or cut off"),
        ("[" * 100_000, "not JSON"),
        ("<xml/>", "not JSON"),
        ([], "not a COCO annotation file"),
        ([{"image_id": 1, "score": 0.5}], "not a COCO annotation file"),
        (3, "not a COCO annotation file"),
        ({}, "has no list of images"),
        ({"version": "5.3", "shapes": [], "imagePath": "1.jpg"}, "has no list of images"),
        ({"images": []}, "has no list of categories"),
        ({**valid_content(), "images": {}}, "has no list of images"),
        ({**valid_content(), "categories": None}, "has no list of categories"),
        ({**valid_content(), "annotations": None}, "has no list of annotations"),
        ({**valid_content(), "categories": []}, "no usable category"),
        (
            {**valid_content(), "categories": [{"id": 1}]},
            "no usable category; correct it: 1 category without a name, left out",
        ),
        ({**valid_content(), "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "1 is both 'a' and 'b'"),
        ({**valid_content(), "images": []}, "no usable picture"),
        ({**valid_content(), "images": [{"id": 1}]}, "no usable picture; correct it: 1 image without a file_name"),
        ({**valid_content(), "annotations": []}, "no picture with a usable annotation"),
        (
            {**valid_content(), "annotations": [{"id": 4, "image_id": 5}]},
            "correct it: 1 annotation of an unknown category",
        ),
    ],
)
def test_a_useless_file_is_one_line_with_its_name(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as error:
        read(tmp_path, content)
    assert str(error.value).startswith(f"{tmp_path / 'train.json'}: ")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    binary = tmp_path / "picture.jpg"
    binary.write_bytes(b"\xff\xd8\xff\xe0")
    for path, says in ((tmp_path / "gone.json", "train_path"), (tmp_path, "train_path"), (binary, "not JSON")):
        with pytest.raises(InputError, match=says):
            read_coco(path, tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(a pipe or a device, not a regular file\)"):
        read_coco(os.devnull, tmp_path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert read(tmp_path, "\ufeff" + json.dumps(valid_content())).instances == 4


def test_class_indices_come_from_the_training_file(tmp_path):
    classes = ClassList(names=("ring", "hat", "dog", "cat"), ids=(7, 6, 3, 1))
    coco = read(tmp_path, valid_content(), classes=classes)
    assert coco.classes is classes
    assert [one.class_index for record in coco.records for one in record.annotations] == [0, 2, 3, 3]


def test_a_category_that_is_not_in_the_class_list(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, valid_content(), classes=ClassList(names=("cat",), ids=(1,)), classes_from="train.json")
    assert str(error.value) == (
        f"2 category ids of {tmp_path / 'train.json'} are not in train.json: 3 'dog', 7 'ring'; "
        "use annotation files with the same categories"
    )


def test_a_category_that_has_another_name():
    """This happens if one file counts its categories from 0 and the other from 1."""
    names = {"first_name": "train.json", "second_name": "val.json"}
    train = ClassList(names=("cat", "dog", "cap"), ids=(0, 1, 2))
    check_same_classes(train, ClassList(names=("Dog ",), ids=(1,)), **names)
    with pytest.raises(InputError, match="val.json has other category names than train.json: 1 is 'cat' and was 'dog'"):
        check_same_classes(train, ClassList(names=("cat", "dog"), ids=(1, 2)), **names)


@needs_coco
@pytest.mark.parametrize(("part", "instances", "crowds"), [("train2017", 699, 6), ("val2017", 804, 11)])
def test_pictures_and_masks_of_coco(part, instances, crowds):
    path = COCO_TINY / "annotations" / f"instances_{part}.json"
    coco = read_coco(path, COCO_TINY / part, classes=read_class_list(PROJECT / Config.classes_path))
    assert (coco.pictures, coco.instances, coco.crowds, str(coco.problems)) == (80, instances, crowds, "")
    content = json.loads(path.read_text())
    raw = {row["id"]: row for row in content["annotations"] if not row["iscrowd"]}
    names = {row["id"]: row["name"] for row in content["categories"]}
    for record in coco.records:
        for one in record.annotations:
            row = raw.pop(one.id)
            assert row["image_id"] == record.image_id
            assert names[row["category_id"]] == coco.classes.names[one.class_index]
            x, y, w, h = row["bbox"]
            assert one.box == pytest.approx((x, y, x + w, y + h), abs=0.01)
            expected = by_pycocotools(row["segmentation"], record.height, record.width)
            assert np.array_equal(decode_mask(one, record.height, record.width).to_full(*expected.shape), expected)
    assert not raw


@needs_coco
def test_crowds_of_coco_decode_like_pycocotools():
    """The records leave out crowds, but these are the only real RLEs in the data set."""
    content = json.loads((COCO_TINY / "annotations" / "instances_val2017.json").read_text())
    crowds = [row["segmentation"] for row in content["annotations"] if row["iscrowd"]]
    assert crowds
    for segmentation in crowds:
        compressed = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        annotation = Annotation(1, 0, (0, 0, 1, 1), compressed)
        window = decode_mask(annotation, *segmentation["size"])
        assert np.array_equal(window.to_full(*segmentation["size"]), coco_mask.decode(compressed))


def by_pycocotools(segmentation: object, height: int, width: int) -> np.ndarray:
    parts = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(coco_mask.merge(parts) if isinstance(parts, list) else parts)


COORDINATE = st.one_of(
    st.floats(-60, 120), st.integers(-60, 120), st.integers(-6000, 12000).map(lambda n: n / 100), st.floats(0, 40)
)
POLYGON = st.lists(COORDINATE, min_size=6, max_size=40).map(lambda values: values[: len(values) // 2 * 2])


@given(polygons=st.lists(POLYGON, min_size=1, max_size=3), height=st.integers(1, 50), width=st.integers(1, 50))
def test_polygons_decode_like_pycocotools(polygons, height, width):
    annotation = Annotation(1, 0, (0, 0, 1, 1), tuple(np.array(polygon, np.float64) for polygon in polygons))
    window = decode_mask(annotation, height, width)
    assert np.array_equal(window.to_full(height, width), by_pycocotools(polygons, height, width))
    assert (window.pixels.dtype, window.pixels.flags.c_contiguous) == (np.uint8, True)
    if window.area:
        assert window.pixels[0].any() and window.pixels[-1].any()
        assert window.pixels[:, 0].any() and window.pixels[:, -1].any()
    else:
        assert window.pixels.shape == (0, 0)


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 50), width=st.integers(1, 50), share=st.floats(0, 1))
def test_runs_decode_like_pycocotools(seed, height, width, share):
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    compressed = coco_mask.encode(np.asfortranarray(mask))
    assert parse_runs(compressed["counts"].decode()).tolist() == runs_of(mask)
    window = decode_mask(Annotation(1, 0, (0, 0, 1, 1), compressed), height, width)
    assert np.array_equal(window.to_full(height, width), mask)


@pytest.mark.parametrize("counts", ["", " ", "/0", "p0", "\x7f0", "P", "0P", "P" * 7 + "0", "ü", "\ud800"])
def test_runs_that_pycocotools_would_not_write(counts):
    assert parse_runs(counts) is None


def test_records_can_be_sent_to_another_process(tmp_path):
    records = read(tmp_path, valid_content()).records
    copied = pickle.loads(pickle.dumps(records))
    assert [record.path for record in copied] == [record.path for record in records]
    assert copied[1].annotations[0].segmentation[0].tolist() == SQUARE


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    """One system call for each file would take minutes on a network drive."""
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    read(tmp_path, valid_content())
    assert len(listed) == 1
