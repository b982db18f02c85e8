"""Test tools/yolo2coco.py: layouts, splits, and lines that give no instance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from data.images import write_image
from tests.support.programs import run_main
from tools import yolo2coco
from tools.dataset.yolo_files import labels_of

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"


@pytest.fixture
def data(tmp_path):
    """Return a data.yaml with two pictures of 40 x 80 pixels to train on and one for validation."""
    for name, lines in {"train/a": f"1 {SQUARE}", "train/b": "", "val/c": f"0 {SQUARE}\n"}.items():
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((40, 80, 3), np.uint8))
        path = tmp_path / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines)
    path = tmp_path / "data.yaml"
    path.write_text("path: /gone\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: 'no'}\n")
    return path


def convert(data, *options):
    output = data.parent / "out.json"
    return output, run_main(yolo2coco.main, data, "--output", output, *options)


def masks(path):
    coco = COCO(str(path))
    names = {image["id"]: image["file_name"] for image in coco.imgs.values()}
    return {
        (names[row["image_id"]], coco.cats[row["category_id"]]["name"]): coco.annToMask(row)
        for row in coco.anns.values()
    }


def test_pictures_of_train_and_val_have_a_file_each(data):
    output, done = convert(data)
    assert done.returncode == 0, done.stderr
    expected = np.zeros((40, 80), np.uint8)
    expected[10:30, 20:60] = 1
    for path, key in ((output, ("train/a.png", "no")), (output.with_name("out_val.json"), ("val/c.png", "cat"))):
        found = masks(path)
        assert list(found) == [key]
        np.testing.assert_array_equal(found[key], expected)
    assert "read 3 pictures, 1 of them without instances; skipped 0; left out 0 lines" in done.stdout
    assert f"val_pre_path={data.parent / 'images'}" in done.stdout
    assert [image["file_name"] for image in json.loads(output.read_text())["images"]] == ["train/a.png", "train/b.png"]


@pytest.mark.parametrize("val", ["val: images/train", "", "val: [images/train]"])
def test_pictures_that_are_in_both_are_for_training(data, val):
    data.write_text(f"train: images/train\n{val}\nnames: [cat, 'no']\n")
    output, done = convert(data)
    assert done.returncode == 0 and not output.with_name("out_val.json").exists()
    assert len(json.loads(output.read_text())["images"]) == 2
    output, done = convert(data, "--val-fraction", "0.5")
    assert done.returncode == 0
    assert len(json.loads(output.with_name("out_val.json").read_text())["images"]) == 1


def test_a_text_file_names_pictures(data):
    (data.parent / "list.txt").write_text("./images/val/c.png\nimages/train/a.png\n\n")
    data.write_text("train: list.txt\nnames: [cat, dog]\n")
    output, done = convert(data)
    assert done.returncode == 0 and len(masks(output)) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"2 {SQUARE}", "the class 2 is not one of the 2 in data.yaml"),
        (f"x {SQUARE}", "the class x is not one of"),
        ("0 0.5 0.5 0.2 0.2", "is a box, not a polygon"),
        ("0 0.5 0.5 0.2", "has 3 numbers after the class"),
        (f"0 {SQUARE} 1", "has 9 numbers after the class"),
        ("0 0.1 0.1 0.5 0.1 0.5 x", "could not convert string to float"),
        ("0 0.1 0.1 0.5 0.1 nan 0.5", "has coordinates that are not shares"),
        ("0 10 10 50 10 50 50", "has coordinates that are not shares"),
        ("0 1.5 0 1.6 0 1.6 0.5", "has no area in the picture"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5", "covers no pixel"),
    ],
)
def test_lines_that_give_no_instance_are_named(data, line, reason):
    labels = data.parent / "labels" / "train" / "a.txt"
    labels.write_text(f"1 {SQUARE}\n\n{line}\n")
    output, done = convert(data)
    assert done.returncode == 0 and len(masks(output)) == 1
    assert f"left out {labels}: line 3: {reason}" in done.stderr and "left out 1 lines" in done.stdout


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "has no names"),
        ("names: [a]", "no folders as train or val"),
        ("train: images/train", "has no names"),
        ("train: nowhere\nnames: [a]", "nowhere, which does not exist"),
        ("train: 3\nnames: [a]", "train must be the name of a folder, and is 3"),
        ("path: [x]\ntrain: images/train\nnames: [a]", "path must be the name of a folder"),
        ("train: images/train\nnames: []", "its names must be a list"),
        ("train: images/train\nnames: {1: a}", "a name for each of the numbers 0, 1, 2"),
        ("train: images/train\nnames: {x: a, 0: b}", "a name for each of the numbers 0, 1, 2"),
        ("train: images/train\nnames: [a, a]", "the names a"),
        ("train: images/train\nnames: [' ']", "are empty, not printable or there twice"),
        ("train: labels/train\nnames: [a]", "no pictures in this folder"),
        ("train: images/train/b.png\nnames: [a]", "none of 1 pictures has an instance"),
        ("train: images\nnames: [a]", "no pictures in this folder"),
    ],
)
def test_a_description_that_does_not_fit_is_one_line(data, content, reason):
    data.write_text(content)
    output, done = convert(data)
    assert done.returncode == 2 and reason in done.stderr and not output.exists()
    assert str(data.parent) in done.stderr and "Traceback" not in done.stderr


def test_a_missing_description_and_labels_in_latin1_are_named(data):
    done = run_main(yolo2coco.main, data.with_name("gone.yaml"), "--output", data.with_name("out.json"))
    assert done.returncode == 2 and "gone.yaml: cannot be read (No such file or directory)" in done.stderr
    labels = data.parent / "labels" / "train" / "a.txt"
    labels.write_bytes(b"\xff")
    _, done = convert(data)
    assert done.returncode == 0 and f"skipped {labels}: cannot be read" in done.stderr


def test_a_list_in_latin1_is_one_line(data):
    (data.parent / "list.txt").write_bytes(b"\xff.png")
    data.write_text("train: list.txt\nnames: [cat]\n")
    _, done = convert(data)
    assert done.returncode == 2 and "list.txt: cannot be read" in done.stderr


def test_two_pictures_of_one_label_file_are_refused(data):
    write_image(data.parent / "images" / "train" / "a.bmp", np.zeros((40, 80, 3), np.uint8))
    _, done = convert(data)
    assert done.returncode == 2 and "both annotate" in done.stderr


def test_without_pyyaml_the_remedy_is_named(data, monkeypatch):
    monkeypatch.setattr(yolo2coco, "find_spec", lambda name: None)
    _, done = convert(data)
    assert done.returncode == 2 and "pip install pyyaml" in done.stderr


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("a/images/b/c.jpg", "a/labels/b/c.txt"),
        ("images/images/x.png", "images/labels/x.txt"),
        ("x/y.png", "x/y.txt"),
        ("images.png", "images.txt"),
        ("/images/x.y.png", "/labels/x.y.txt"),
    ],
)
def test_labels_are_beside_the_pictures(picture, labels):
    assert labels_of(Path(picture)) == Path(labels)
