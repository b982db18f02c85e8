"""Values of labels: transparent pixels, compression that changes them, and what `tools/masks2coco.py` refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.programs import run_main
from tools import masks2coco
from tools.dataset.coco_writer import UnusableFileError
from tools.dataset.mask_files import LabelOptions, read_values, split_labels

LABELS = np.zeros((12, 16), np.uint8)
LABELS[2:5, 2:6], LABELS[7:10, 8:12] = 1, 2
BACKGROUND = 5  # a value of the pixels without an instance, which are transparent


def filled() -> np.ndarray:
    return np.where(LABELS > 0, LABELS, BACKGROUND).astype(np.uint8)


def write_indices(path: Path) -> None:
    picture = Image.fromarray(filled(), "P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(path, transparency=BACKGROUND)


def write_alphas_of_indices(path: Path) -> None:
    picture = Image.fromarray(filled(), "P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(path, transparency=bytes([255] * BACKGROUND + [0]))


def write_grey(path: Path) -> None:
    Image.fromarray(filled()).save(path, transparency=BACKGROUND)


def write_grey_and_alpha(path: Path) -> None:
    alpha = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    Image.merge("LA", [Image.fromarray(filled()), Image.fromarray(alpha)]).save(path)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (write_indices, ".png"),
        (write_alphas_of_indices, ".png"),
        (write_grey, ".png"),
        (write_grey_and_alpha, ".png"),
        (write_grey_and_alpha, ".tif"),
    ],
)
def test_transparent_pixels_are_background_in_every_form(tmp_path, write, suffix):
    write(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_values(tmp_path / f"a{suffix}", LabelOptions()) > 0, LABELS > 0)


def test_grey_values_have_no_alpha(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    with pytest.raises(UnusableFileError, match="has no alpha; give another --channel"):
        read_values(tmp_path / "a.png", LabelOptions(channel=3))
    np.testing.assert_array_equal(read_values(tmp_path / "a.png", LabelOptions(channel=0)), LABELS)


@pytest.mark.parametrize(("name", "options"), [("a.tif", {"compression": "jpeg"}), ("a.webp", {"quality": 80})])
def test_lossy_compression_is_refused(tmp_path, name, options):
    Image.fromarray(LABELS * 100).convert("RGB").save(tmp_path / name, **options)
    with pytest.raises(UnusableFileError, match="lossy compression, which does not keep the values"):
        read_values(tmp_path / name, LabelOptions())


def test_lossless_webp_is_read(tmp_path):
    Image.fromarray(LABELS).convert("RGB").save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_values(tmp_path / "a.webp", LabelOptions()) > 0, LABELS > 0)


def convert(folder: object, tmp_path: Path, *options: object):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((*LABELS.shape, 3), np.uint8))
    (tmp_path / "masks").mkdir(exist_ok=True)
    Image.fromarray(LABELS).save(tmp_path / "masks" / "a.png")
    done = run_main(masks2coco.main, folder, "--masks", tmp_path / "masks", "--output", tmp_path / "o.json", *options)
    assert done.returncode == 2 and not (tmp_path / "o.json").exists()
    return done.stderr


@pytest.mark.parametrize("name", ["a.jpg", "*.jpg", "none"])
def test_pictures_are_given_by_their_folder(tmp_path, name):
    assert f"{name}: no such folder; give the folder of the pictures" in convert(tmp_path / name, tmp_path)


def test_a_list_that_is_not_utf_8_is_one_line(tmp_path):
    (tmp_path / "names.txt").write_bytes("a\n".encode("utf-16"))
    assert "names.txt: cannot be read (not UTF-8)" in convert(tmp_path, tmp_path, "--names", tmp_path / "names.txt")


def test_a_data_set_without_an_instance_is_refused(tmp_path):
    assert "none of 0 pictures has" not in (said := convert(tmp_path, tmp_path, "--background=9", "--channel=alpha"))
    assert "none of 1 files could be converted" in said
    (tmp_path / "masks").mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((*LABELS.shape, 3), np.uint8))
    Image.fromarray(LABELS * 0).save(tmp_path / "masks" / "b.png")
    (tmp_path / "b.txt").write_text("b\n")
    said = convert(tmp_path, tmp_path, "--names", tmp_path / "b.txt")
    assert f"{tmp_path}: none of 1 pictures has an instance" in said


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1, 1, 1], "a.png: one value has several separate regions; add --connected if each of them is an instance"),
        ([1] * 10 + [2], "a.png: 11 separate regions of 2 values; add --connected if values are reused"),
        ([1, 1, 1, 2], ""),
        ([1, 2, 3], ""),
    ],
)
def test_values_that_are_reused_are_doubtful(tmp_path, values, line):
    """A few regions of one value among others may be one instance behind another."""
    labels = np.zeros((8, 40), np.uint8)
    labels[4, 2 : 2 + 3 * len(values) : 3] = values
    Image.fromarray(labels).save(tmp_path / "a.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks" / "a.png")
    rest = "--masks", tmp_path / "masks", "--output", tmp_path / "coco.json"
    done = run_main(masks2coco.main, tmp_path, *rest)
    assert done.returncode == 0
    assert done.stderr.partition("doubtful ")[2].strip() == line
    done = run_main(masks2coco.main, tmp_path, *rest, "--connected")
    assert f"{len(values)} instances" in done.stdout and "doubtful" not in done.stderr


def test_masks_are_made_one_after_another():
    """Thousands of masks of a large picture would not fit into the memory together."""
    values = np.arange(1, 20_001, dtype=np.int64).reshape(100, 200).repeat(20, axis=0).repeat(20, axis=1)
    masks = split_labels(values, 0)
    assert next(masks).sum() == next(masks).sum() == 400
