"""`tools/masks2coco.py`: every kind of mask file becomes the instances that it shows; what does not fit is named."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from config.base import PROJECT
from data.images import write_image
from tests.support.programs import Finished, run_main, run_python
from tools import masks2coco
from tools.dataset.mask_files import LabelOptions, read_values, split_labels

NUCLEI = PROJECT.parent / "shared" / "nuclei"
LABELS = np.zeros((20, 30), np.uint16)
LABELS[1:4, 1:4] = 7
LABELS[10:15, 2:9] = 300
LABELS[2:5, 20:25] = 7  # the value of the first again, elsewhere
PICTURE = np.zeros((20, 30, 3), np.uint8)


def convert(folder: Path, *options: object) -> Finished:
    return run_main(masks2coco.main, folder, "--output", folder / "coco.json", *options)


def masks_of(file: Path) -> list[tuple[str, np.ndarray]]:
    """Return the picture's name and the mask of each annotation."""
    content = json.loads(file.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return [(names[row["image_id"]], coco_mask.decode(row["segmentation"])) for row in content["annotations"]]


def pixels(masks: list[np.ndarray]) -> list[list[int]]:
    return sorted(np.flatnonzero(mask).tolist() for mask in masks)


def write_pair(folder: Path, name: str, labels: np.ndarray) -> None:
    write_image(folder / f"{name}.jpg", PICTURE)
    (folder / "masks").mkdir(exist_ok=True)
    assert cv2.imwrite(str(folder / "masks" / f"{name}.png"), labels)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_a_picture_of_any_depth_is_converted(tmp_path, dtype):
    """Training reads those of floating-point numbers with `data.stretch`."""
    write_pair(tmp_path, "a", LABELS)
    (tmp_path / "a.jpg").unlink()
    assert cv2.imwrite(str(tmp_path / "a.tif"), PICTURE.astype(dtype))
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    assert len(masks_of(tmp_path / "coco.json")) == 2


def test_values_of_16_bits(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    done = convert(tmp_path, "--masks", tmp_path / "masks", "--class", "cell")
    assert done.returncode == 0, done.stderr
    found = masks_of(tmp_path / "coco.json")
    assert pixels([mask for _, mask in found]) == pixels([LABELS == 7, LABELS == 300])
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "cell"}]
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}]


def test_connected_regions_of_a_channel(tmp_path):
    colours = np.zeros((20, 30, 4), np.uint8)
    colours[..., 2] = np.where(LABELS == 300, 9, LABELS)  # red, in OpenCV's order
    colours[..., 1] = 50
    write_pair(tmp_path, "a", colours)
    done = convert(tmp_path, "--masks", tmp_path / "masks", "--channel=red", "--connected")
    assert done.returncode == 0, done.stderr
    first = np.zeros_like(LABELS, bool)
    first[1:4, 1:4] = True
    expected = [first, (LABELS == 7) & ~first, LABELS == 300]
    assert pixels([mask for _, mask in masks_of(tmp_path / "coco.json")]) == pixels(expected)


@pytest.mark.parametrize(("alpha", "count"), [(np.where(LABELS > 0, 255, 0), 2), (np.zeros_like(LABELS), 3)])
def test_transparent_pixels_are_background_unless_all_are(tmp_path, alpha, count):
    colours = np.dstack([np.where(LABELS > 0, LABELS % 256, 255)] * 3 + [alpha])
    write_pair(tmp_path, "a", colours.astype(np.uint8))
    assert convert(tmp_path, "--masks", tmp_path / "masks").returncode == 0
    assert len(masks_of(tmp_path / "coco.json")) == count


def test_one_file_per_instance(tmp_path):
    for name, count in (("b", 2), ("a", 1)):
        write_image(tmp_path / name / "images" / f"{name}.png", PICTURE)
        for number in range(count):
            mask = np.zeros((20, 30), bool)
            mask[number : number + 4, 2:8] = True
            write_image(tmp_path / name / "masks" / f"{number}.png", mask)
    write_image(tmp_path / "a" / "masks" / "nothing.png", np.zeros((20, 30), bool))
    (tmp_path / "none" / "masks").mkdir(parents=True)
    for name in ("1.png", "2.png", ".hidden.png"):
        write_image(tmp_path / "two" / "images" / name, PICTURE)
    (tmp_path / "two" / "masks").mkdir()
    (tmp_path / "bare" / "images").mkdir(parents=True)
    done = convert(tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"skipped {tmp_path / 'bare'}: has no folder masks\n" in done.stderr and "skipped 3" in done.stdout
    for name, count in (("none", 0), ("two", 2)):
        assert f"skipped {tmp_path / name / 'images'}: has {count} pictures, not the one of the masks" in done.stderr
    assert [name for name, _ in masks_of(tmp_path / "coco.json")] == ["a/images/a.png", *["b/images/b.png"] * 2]
    assert f"left out {tmp_path / 'a' / 'masks' / 'nothing.png'}: is empty" in done.stderr
    assert "doubtful b/images/b.png: 18 pixels in several masks" in done.stderr
    assert "left out 1 empty masks; masks overlap in 1 pictures" in done.stdout


def test_what_does_not_fit_is_named_and_skipped(tmp_path):
    write_pair(tmp_path, "good", LABELS)
    write_pair(tmp_path, "empty", LABELS * 0)
    write_pair(tmp_path, "small", LABELS[:10])
    write_pair(tmp_path, "no_labels", LABELS)
    (tmp_path / "masks" / "no_labels.png").rename(tmp_path / "masks" / "no_picture.png")
    write_pair(tmp_path, "damaged", LABELS)
    (tmp_path / "masks" / "damaged.png").write_bytes(b"no picture")
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    assert "read 2 pictures, 1 of them without instances; skipped 4;" in done.stdout
    for name, reason in (
        ("masks/small.png", "has 30x10 pixels, but its picture has 30x20"),
        ("no_labels.jpg", "has no labels"),
        ("masks/no_picture.png", "has no picture"),
        ("masks/damaged.png", "not a picture"),
    ):
        assert f"skipped {tmp_path / name}: {reason}" in done.stderr


def test_labels_in_a_jpeg_are_refused(tmp_path):
    """Its compression would make instances of noise."""
    write_pair(tmp_path, "a", LABELS)
    (tmp_path / "masks" / "a.png").unlink()
    assert cv2.imwrite(str(tmp_path / "masks" / "a.jpg"), (LABELS > 0).astype(np.uint8) * 200)
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert "a.jpg: a JPEG or lossy compression, which does not keep the values of labels; save them as" in done.stderr


@pytest.mark.parametrize("value", [np.inf, np.nan, 2.0**70, 0.5])
def test_numbers_that_are_no_labels_are_refused(tmp_path, value):
    write_pair(tmp_path, "a", LABELS)
    (tmp_path / "masks" / "a.png").unlink()
    labels = LABELS.astype(np.float32)
    labels[0, 0] = value
    assert cv2.imwrite(str(tmp_path / "masks" / "a.tif"), labels)
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert done.returncode == 2 and "a.tif: has values that are no whole numbers; save the labels" in done.stderr


def test_labels_in_several_pages_are_refused(tmp_path):
    """OpenCV reads the first page only: the instances of the others would be lost."""
    write_pair(tmp_path, "a", LABELS)
    (tmp_path / "masks" / "a.png").unlink()
    assert cv2.imwritemulti(str(tmp_path / "masks" / "a.tif"), [np.uint8(LABELS > 0), np.uint8(LABELS > 1)])
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert "a.tif: has 2 pages; save one page with all labels" in done.stderr


def test_two_files_of_labels_with_one_name_are_refused(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    shutil.copy(tmp_path / "masks" / "a.png", tmp_path / "masks" / "a.tif")
    rest = "--masks", tmp_path / "masks"
    done = convert(tmp_path, *rest)
    assert done.returncode == 2 and "a.tif: both may be the labels of one picture; keep one of them" in done.stderr
    write_pair(tmp_path, "b", LABELS)
    (tmp_path / "b.txt").write_text("b")
    assert convert(tmp_path, *rest, "--names", tmp_path / "b.txt").returncode == 0


@pytest.mark.parametrize("name", ["", "  ", "a\tb", "a\nb"])
def test_a_class_name_that_no_list_can_hold_is_refused(tmp_path, name):
    done = convert(tmp_path, "--masks", tmp_path, "--class", name)
    assert done.returncode == 2 and "--class: " in done.stderr and "without tabs" in done.stderr


def test_splits_by_lists_and_by_fraction(tmp_path):
    for name in "abcd":
        write_pair(tmp_path, name, LABELS)
    (tmp_path / "train.txt").write_text("a\nb.jpg\n\n")
    (tmp_path / "val.txt").write_text("c.tif\n")
    lists = "--names", tmp_path / "train.txt", "--val-names", tmp_path / "val.txt"
    done = convert(tmp_path, "--masks", tmp_path / "masks", *lists)
    assert done.returncode == 0, done.stderr
    assert {name for name, _ in masks_of(tmp_path / "coco.json")} == {"a.jpg", "b.jpg"}
    assert {name for name, _ in masks_of(tmp_path / "coco_val.json")} == {"c.jpg"}
    assert f"val_path={tmp_path / 'coco_val.json'}" in done.stdout
    done = convert(tmp_path, "--masks", tmp_path / "masks", "--val-fraction=0.5")
    sizes = [len({name for name, _ in masks_of(tmp_path / file)}) for file in ("coco.json", "coco_val.json")]
    assert (done.returncode, sizes) == (0, [2, 2])


@pytest.mark.parametrize("name", ["well.03", "b.9", "b"])
def test_a_name_with_a_dot_is_not_another_picture(tmp_path, name):
    for picture in ("well.01", "well.02", "b.8"):
        write_pair(tmp_path, picture, LABELS)
    (tmp_path / "names.txt").write_text(f"well.01\n{name}\n")
    options = "--masks", tmp_path / "masks", "--names", tmp_path / "names.txt"
    done = convert(tmp_path, *options)
    assert done.returncode == 2 and f"1 of 2 names have no picture with masks: {name}\n" in done.stderr
    (tmp_path / "names.txt").write_text("well.01\nb.8\n")
    assert convert(tmp_path, *options).returncode == 0
    assert {name for name, _ in masks_of(tmp_path / "coco.json")} == {"well.01.jpg", "b.8.jpg"}


def test_two_pictures_of_one_picture_of_labels_are_refused(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    write_image(tmp_path / "a.png", PICTURE)
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    labels = tmp_path / "masks" / "a.png"
    assert done.returncode == 2 and f"a.png: both may be the picture of {labels}; keep one of them" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--masks=masks", "--names=unknown.txt"], "unknown.txt: 1 of 2 names have no picture with masks: z"),
        (["--masks=masks", "--names=none.txt"], "none.txt: cannot be read"),
        (["--masks=masks", "--names=empty.txt"], "empty.txt: has no names"),
        (["--masks=masks", "--names=a.txt", "--val-names=a.txt"], "a.txt and a.txt: both name a.jpg"),
        (["--masks=masks", "--suffix=_masks"], "has no labels for 1 pictures of ., such as a_masks.png; see --suffix"),
        (["--masks=none"], "none: no such file or folder"),
        ([], "has no folders NAME/images and NAME/masks; give --masks"),
        (["--connected"], "--connected: is for pictures of labels; add --masks DIR"),
        (["--suffix=_a"], "--suffix: is for pictures of labels; add --masks DIR"),
        (["--masks=masks", "--seed=1"], "--seed: is for the choice for validation; add --val-fraction"),
        (["--masks=masks", "--val-names=a.txt"], "a.txt: names all pictures and leaves none to train on"),
        (["--masks=masks", "--val-names=a.txt", "--val-fraction=0.5"], "--val-fraction: cannot be combined"),
        (["--masks=masks", "--val-fraction=1"], "leaves no picture to train on"),
        (["--masks=masks", "--channel=alpha", "--names=a.txt"], "none of 1 files could be converted"),
        (["--masks=masks", "--background=70000"], "none of 1 files could be converted"),
        (["--masks=."], "a.jpg: is the picture and its labels; give the folder of the labels with --masks"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path, "a", np.repeat(LABELS[..., None], 3, axis=2))
    for name, content in (("unknown", "a\nz\n"), ("empty", "\n"), ("a", "a\n")):
        (tmp_path / f"{name}.txt").write_text(content)
    done = run_main(masks2coco.main, ".", "--output=coco.json", *options)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "coco.json").exists()


def fill(values: np.ndarray, connectivity: int) -> list[list[int]]:
    """Return the pixels of each connected region of a value that is not 0, one pixel after another."""
    height, width = values.shape
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + [(-1, -1), (-1, 1), (1, -1), (1, 1)] * (connectivity == 8)
    left = {place for place in np.ndindex(height, width) if values[place]}
    regions = []
    while left:
        region, front = [], [left.pop()]
        while front:
            y, x = front.pop()
            region.append(y * width + x)
            near = {(y + dy, x + dx) for dy, dx in steps} & left
            front += [place for place in near if values[place] == values[y, x]]
            left -= set(front)
        regions.append(sorted(region))
    return sorted(regions)


@given(arrays(np.int64, (6, 7), elements=st.integers(0, 2)), st.sampled_from([4, 8]))
def test_regions_are_those_of_a_fill(values, connectivity):
    assert pixels(list(split_labels(values, connectivity))) == fill(values, connectivity)


@given(arrays(np.uint8, (5, 6), elements=st.integers(0, 3)), st.sampled_from(["index", "grey", "16 bits", "colour"]))
def test_every_form_gives_the_same_instances(tmp_path_factory, labels, form):
    path = tmp_path_factory.mktemp("forms") / "labels.png"
    if form == "index":
        image = Image.fromarray(labels).convert("P")
        image.putpalette([*range(30)] * 2)
        image.save(path)
    else:
        stored = {"16 bits": labels.astype(np.uint16) * 999, "colour": np.stack([labels, labels * 0, labels], -1)}
        cv2.imwrite(str(path), stored.get(form, labels))
    found = list(split_labels(read_values(path, LabelOptions()), 0))
    assert pixels(found) == pixels([labels == value for value in np.unique(labels[labels > 0])])


def test_a_folder_that_is_missing(tmp_path):
    done = run_main(masks2coco.main, tmp_path / "nowhere", "--output", tmp_path / "coco.json")
    assert done.returncode == 2 and f"{tmp_path / 'nowhere'}: no such folder" in done.stderr


def test_another_background(tmp_path):
    write_pair(tmp_path, "a", np.uint8([[255, 255, 0], [1, 255, 255]]))
    found = list(split_labels(read_values(tmp_path / "masks" / "a.png", LabelOptions(background=255)), 0))
    assert pixels(found) == [[2], [3]]


def test_labels_0_and_minus_1_stay_two_with_another_background(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    (tmp_path / "masks" / "a.png").unlink()
    labels = np.full(LABELS.shape, 1000, np.int32)
    labels[2:5, 2:5], labels[9:12, 9:12] = 0, -1
    assert cv2.imwrite(str(tmp_path / "masks" / "a.tif"), labels)
    done = convert(tmp_path, "--masks", tmp_path / "masks", "--background", 1000)
    assert done.returncode == 0, done.stderr
    assert pixels([mask for _, mask in masks_of(tmp_path / "coco.json")]) == pixels([labels == 0, labels == -1])


def test_a_background_that_the_file_cannot_have_is_named(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    done = convert(tmp_path, "--masks", tmp_path / "masks", "--background=70000")
    assert (
        f"skipped {tmp_path / 'masks' / 'a.png'}: has values up to 65535, so none is --background 70000" in done.stderr
    )


def test_the_command_line(tmp_path):
    write_pair(tmp_path, "a", LABELS)
    done = run_python("tools/masks2coco.py", tmp_path, "--masks", tmp_path / "masks", "--output", tmp_path / "c.json")
    assert (done.returncode, len(masks_of(tmp_path / "c.json"))) == (0, 2), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not NUCLEI.is_dir(), reason="../shared/nuclei is not there")
def test_all_nuclei_of_bbbc039_are_found(tmp_path):
    lists = "--names", NUCLEI / "train.txt", "--val-names", NUCLEI / "validation.txt"
    options = "--masks", NUCLEI / "masks", "--channel=red", "--connected", *lists
    done = run_main(masks2coco.main, NUCLEI / "images", *options, "--output", tmp_path / "nuclei.json")
    assert done.returncode == 0, done.stderr
    assert "100 pictures, 12001 instances" in done.stdout and "50 pictures, 5896 instances" in done.stdout
    assert "read 150 pictures, 3 of them without instances; skipped 0" in done.stdout


def test_labels_that_are_read_as_other_values_are_named(tmp_path):
    tifffile = pytest.importorskip("tifffile")  # comes with scikit-image
    small = LABELS.astype(np.uint8)
    write_pair(tmp_path, "good", LABELS)
    turned = Image.Exif()
    turned[0x112] = 3
    for name, says in {
        "turned": "has an EXIF orientation",
        "indices": "has an EXIF orientation",
        "white": "stores white as 0",
        "bits": "stores white as 0",
        "alpha": "an 8-bit TIFF with alpha",
        "apart": "each channel apart",
        "photo": "values, most of them beside another one",
    }.items():
        write_pair(tmp_path, name, LABELS)
        file = tmp_path / "masks" / f"{name}.png"
        file.unlink()
        if name in ("turned", "indices"):
            Image.fromarray(small, "P" if name == "indices" else "L").save(file, exif=turned)
        elif name == "photo":
            assert cv2.imwrite(str(file), np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
        elif name in ("white", "bits"):
            tifffile.imwrite(file.with_suffix(".tif"), small > 0 if name == "bits" else small, photometric="miniswhite")
        elif name == "alpha":
            colours = np.dstack([small] * 3 + [np.full_like(small, 3)])
            tifffile.imwrite(file.with_suffix(".tif"), colours, photometric="rgb", extrasamples=["unassalpha"])
        else:
            deep = np.stack([LABELS] * 3)
            tifffile.imwrite(file.with_suffix(".tif"), deep, photometric="rgb", planarconfig="separate")
        done = convert(tmp_path, "--masks", tmp_path / "masks")
        assert done.returncode == 0 and {image for image, _ in masks_of(tmp_path / "coco.json")} == {"good.jpg"}
        assert f"masks/{name}." in done.stderr and says in done.stderr, name
        (tmp_path / f"{name}.jpg").unlink()


@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 20)), (3, (30, 20)), (6, (20, 30)), (6, (20, 20))])
def test_a_turned_picture_is_converted_if_the_size_tells_that_its_masks_are_turned_too(tmp_path, orientation, size):
    labels = LABELS[:20, :20] if size == (20, 20) else LABELS
    write_pair(tmp_path, "a", LABELS)
    write_pair(tmp_path, "b", labels)
    turned = Image.Exif()
    turned[0x112] = orientation
    Image.new("RGB", size).save(tmp_path / "b.jpg", exif=turned)
    done = convert(tmp_path, "--masks", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    is_clear = orientation == 1 or size == (20, 30)
    assert [name for name, _ in masks_of(tmp_path / "coco.json")] == ["a.jpg"] * 2 + ["b.jpg"] * 2 * is_clear
    says = f"skipped {tmp_path / 'b.jpg'}: has the EXIF orientation {orientation}, and masks may be of the turned or"
    assert (says in done.stderr) == (not is_clear)


def test_a_folder_that_cannot_be_listed_is_no_folder_without_masks(tmp_path, monkeypatch):
    def refuse(path: Path) -> list[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    done = convert(tmp_path)
    assert done.returncode == 2 and f"{tmp_path}: Permission denied; change the permissions" in done.stderr
