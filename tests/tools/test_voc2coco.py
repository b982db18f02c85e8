"""From the palette masks of PASCAL VOC to a COCO file."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from config import load_config
from config.base import PROJECT
from config.errors import InputError
from data.images import read_image
from tests.support.png_chunks import grey_png
from tests.support.programs import run_python
from tools.voc2coco import main, split_instances

HEIGHT, WIDTH = 30, 40


def write_mask(path: Path, indices: np.ndarray) -> None:
    """Write a palette PNG whose colours do not reveal the indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([(index * 77 + channel) % 256 for index in range(256) for channel in range(3)])
    picture.save(path)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return instances 1 (cat), 2 (person) and 3 (person) with a void border, and the class of each pixel."""
    objects = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, (top, left, bottom, right) in enumerate([(2, 2, 12, 15), (5, 20, 25, 30), (15, 1, 28, 18)], start=1):
        objects[top - 1 : bottom + 1, left - 1 : right + 1] = 255
        objects[top:bottom, left:right] = number
    return objects, np.array([0, 8, 15, 15] + [255] * 252, np.uint8)[objects]


def add(folder: Path, name: str, objects: np.ndarray, classes: np.ndarray) -> None:
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_mask(folder / "SegmentationObject" / f"{name}.png", objects)
    write_mask(folder / "SegmentationClass" / f"{name}.png", classes)


def list_pictures(folder: Path, *names: str, split: str = "train") -> None:
    path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def voc(tmp_path) -> Path:
    """Write a data set of one picture, 2007_01, with the instances of `scene`."""
    add(tmp_path / "VOC", "2007_01", *scene())
    list_pictures(tmp_path / "VOC", "2007_01")
    return tmp_path / "VOC"


def convert(folder: Path, *options: str) -> COCO:
    output = folder.parent / "out" / "voc.json"
    assert main([str(folder), "--output", str(output), *options]) == 0
    return COCO(str(output))


def test_instances_are_those_of_the_masks(voc):
    """Run as a user does, from another folder."""
    done = run_python(PROJECT / "tools/voc2coco.py", "VOC", "--output", "out/voc.json", cwd=voc.parent)
    assert done.returncode == 0, done.stderr
    coco = COCO(str(voc.parent / "out" / "voc.json"))
    assert coco.dataset["images"] == [{"id": 1, "file_name": "2007_01.jpg", "height": HEIGHT, "width": WIDTH}]
    assert [row["name"] for row in coco.loadCats([1, 8, 15, 20])] == ["aeroplane", "cat", "person", "tvmonitor"]
    assert len(coco.cats) == 20
    rows = coco.dataset["annotations"]
    assert [row["category_id"] for row in rows] == [8, 15, 15]
    objects, _ = scene()
    for number, row in enumerate(rows, start=1):
        np.testing.assert_array_equal(coco.annToMask(row), objects == number)
        assert row["area"] == (objects == number).sum()
        assert row["iscrowd"] == 0
    assert rows[0]["bbox"] == [2, 2, 13, 10]

    config = load_config(0, shlex.split(done.stdout.partition("use it with ")[2])[1::2])
    assert Path(config.train_path) == voc.parent / "out" / "voc.json"
    assert read_image(Path(config.train_pre_path) / "2007_01.jpg").shape[:2] == (HEIGHT, WIDTH)


def test_split_names_the_list_and_validation_has_its_own_options(voc, capsys):
    add(voc, "2007_02", *scene())
    list_pictures(voc, "2007_02", "", "2007_02 ", split="val")
    coco = convert(voc, "--split", "val")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["2007_02.jpg"]
    printed = capsys.readouterr().out
    assert "-o val_path=" in printed
    assert "-o val_pre_path=" in printed
    assert "train_path" not in printed


def test_labels_replace_the_names_of_voc(voc):
    (voc / "labels.txt").write_text("".join(f"kind {number}\n" for number in range(1, 16)))
    coco = convert(voc, "--labels", str(voc / "labels.txt"))
    assert coco.cats[15]["name"] == "kind 15"
    assert [row["category_id"] for row in coco.dataset["annotations"]] == [8, 15, 15]
    (voc / "labels.txt").write_text("__ignore__\n_background_\n" + (voc / "labels.txt").read_text())
    assert convert(voc, "--labels", str(voc / "labels.txt")).cats == coco.cats  # labelme's own lists
    (voc / "labels.txt").write_text("8\tcat\n")
    with pytest.raises(InputError, match=r"SegmentationClass/2007_01\.png: class 15 is not one of 1 classes"):
        convert(voc, "--labels", str(voc / "labels.txt"))


def test_pictures_of_subfolders_keep_their_place(voc):
    add(voc, "2007_01", *scene())
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (voc / folder / "sub").mkdir()
    add(voc, "sub/2007_01", *scene())
    list_pictures(voc, "2007_01", "sub/2007_01")
    assert [row["file_name"] for row in convert(voc).dataset["images"]] == ["2007_01.jpg", "sub/2007_01.jpg"]


def test_turned_pictures_whose_masks_may_be_turned_or_not_are_named(voc, capsys):
    add(voc, "turned", *scene())
    exif = Image.Exif()
    exif[0x112] = 3
    Image.open(voc / "JPEGImages" / "turned.jpg").save(voc / "JPEGImages" / "turned.jpg", exif=exif)
    list_pictures(voc, "2007_01", "turned")
    assert len(convert(voc).dataset["images"]) == 1
    assert "turned.jpg: has the EXIF orientation 3" in capsys.readouterr().err


@given(
    objects=st.lists(st.integers(0, 5) | st.just(255), min_size=24, max_size=24),
    classes=st.lists(st.integers(0, 4) | st.just(255), min_size=24, max_size=24),
)
def test_class_is_that_of_most_pixels(objects, classes):
    objects, classes = (np.array(values, np.uint8).reshape(4, 6) for values in (objects, classes))
    found = split_instances(objects, classes)
    assert len(found) == len(set(objects.ravel().tolist()) - {0, 255})
    assert not sum(mask.astype(int) for _, mask in found)[(objects == 0) | (objects == 255)].any() if found else True
    for number, mask in found:
        inside = classes[mask & (classes != 0) & (classes != 255)].tolist()
        assert number == 0 if not inside else inside.count(number) == max(map(inside.count, inside))


# Pillow raises another error for each: DecompressionBombError, ValueError, SyntaxError, IndexError.
DAMAGED_PNGS = {
    "huge": grey_png(50_000, 50_000),
    "cut_chunk": grey_png(WIDTH, HEIGHT, (b"pHYs", b"a")),
    "late_header": grey_png(WIDTH, HEIGHT, (b"IDAT", b"\0"), (b"IHDR", bytes(range(40)))),
    "late_profile": grey_png(WIDTH, HEIGHT, (b"IDAT", b"\0"), (b"iCCP", b"")),
}


def damage(voc: Path) -> dict[str, str]:
    """List pictures that cannot be used; return the reason for a part of each path."""
    objects, classes = scene()
    bad = ("no_picture", "no_objects", "colours", "small", "text", "classless", *DAMAGED_PNGS)
    for name in bad:
        add(voc, name, objects, classes)
    (voc / "JPEGImages" / "no_picture.jpg").unlink()
    (voc / "SegmentationObject" / "no_objects.png").unlink()
    Image.fromarray(np.stack([objects] * 3, axis=-1)).save(voc / "SegmentationObject" / "colours.png")
    write_mask(voc / "SegmentationClass" / "small.png", classes[:-1])
    (voc / "SegmentationClass" / "text.png").write_text("no picture")
    write_mask(voc / "SegmentationClass" / "classless.png", np.where(objects == 2, 255, classes))
    for name, content in DAMAGED_PNGS.items():
        (voc / "SegmentationObject" / f"{name}.png").write_bytes(content)
    list_pictures(voc, *bad, "2007_01")
    return {
        **{f"SegmentationObject/{name}.png": "cannot be read (" for name in DAMAGED_PNGS},
        "JPEGImages/no_picture.jpg": "no such file",
        "SegmentationObject/no_objects.png": "cannot be read (No such file or directory)",
        "SegmentationObject/colours.png": "its pixels are colours (RGB), not palette indices",
        "SegmentationClass/small.png": "has 40x29 pixels, its picture 40x30",
        "SegmentationClass/text.png": "cannot be read",
        "SegmentationClass/classless.png": "has no class for one of the instances",
    }


def test_pictures_that_cannot_be_used_are_named_and_the_others_converted(voc, capsys):
    wrong = damage(voc)
    assert [image["file_name"] for image in convert(voc).dataset["images"]] == ["2007_01.jpg"]
    printed = capsys.readouterr()
    assert f"read 1 pictures; skipped {len(wrong)}" in printed.out
    skipped = printed.err.splitlines()
    for part, reason in wrong.items():
        assert any(line.startswith("skipped ") and f"{part}: {reason}" in line for line in skipped), part


def test_grey_masks_are_read_like_palette_ones(voc):
    for folder, indices in zip(("SegmentationObject", "SegmentationClass"), scene()):
        Image.fromarray(indices).save(voc / folder / "2007_01.png")
    assert [row["category_id"] for row in convert(voc).dataset["annotations"]] == [8, 15, 15]


def test_picture_without_instances_is_kept(voc):
    add(voc, "empty", np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8))
    list_pictures(voc, "2007_01", "empty")
    coco = convert(voc)
    assert len(coco.imgs) == 2
    assert not coco.imgToAnns[2]


def test_data_set_without_any_instance_is_refused(voc):
    add(voc, "empty", np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8))
    list_pictures(voc, "empty")
    with pytest.raises(InputError, match="VOC: none of 1 pictures has an instance; choose another --split"):
        convert(voc)
    assert not (voc.parent / "out" / "voc.json").exists()


def test_list_that_is_missing_or_empty_is_named(voc):
    with pytest.raises(InputError, match=r"Segmentation/test\.txt: cannot be read \(No such file"):
        convert(voc, "--split", "test")
    list_pictures(voc, "", split="test")
    with pytest.raises(InputError, match=r"test\.txt: lists no pictures"):
        convert(voc, "--split", "test")
    list_pictures(voc, "a\0b", split="test")
    with pytest.raises(InputError, match=r"test\.txt: cannot be read \(it contains NUL and is not a UTF-8 text\)"):
        convert(voc, "--split", "test")


def test_classes_that_differ_by_case_are_named(voc, capsys):
    (voc / "labels.txt").write_text("".join(f"kind {number}\n" for number in range(1, 16)) + "Kind 3 \n")
    convert(voc, "--labels", str(voc / "labels.txt"))
    assert "doubtful classes 'kind 3' and 'Kind 3': differ only in" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["JPEGImages/2007_01.jpg", "ImageSets/Segmentation/train.txt", "labels.txt"])
def test_files_of_the_data_set_are_not_replaced(voc, place):
    (voc / "labels.txt").write_text("".join(f"kind {number}\n" for number in range(1, 16)))
    before = (voc / place).read_bytes()
    with pytest.raises(InputError, match="is read too"):
        main([str(voc), "--labels", str(voc / "labels.txt"), "--output", str(voc / place)])
    assert (voc / place).read_bytes() == before
