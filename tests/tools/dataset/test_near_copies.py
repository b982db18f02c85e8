"""Test that changed copies of pictures are found, and other pictures are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.coco import Record
from data.images import write_image
from tests.support import tiny
from tools.dataset.near_copies import find_near_copies, hash_picture

SCENES = [tiny.scene(number, 120, 160) for number in range(12)]
COPIES = {
    "compressed": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1),
    "scaled": lambda image: cv2.resize(image, (100, 75), interpolation=cv2.INTER_AREA),
    "brighter": lambda image: np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8),
}


def write(folder: Path, images: list[np.ndarray]) -> list[Record]:
    records = []
    for number, image in enumerate(images):
        write_image(folder / f"{number}.png", image)
        records.append(Record(number, f"{number}.png", folder / f"{number}.png", *image.shape[:2]))
    return records


@pytest.mark.parametrize("change", COPIES)
def test_changed_copies_are_found_and_other_pictures_are_not(tmp_path, change):
    train = write(tmp_path / "train", SCENES[:8])
    val = write(tmp_path / "val", [COPIES[change](SCENES[5]), *SCENES[8:], COPIES[change](SCENES[2])])
    pairs = find_near_copies(train, val)
    assert [(record.image_id, other.image_id) for record, other in pairs] == [(0, 5), (5, 2)]


def test_a_picture_is_named_once_and_unreadable_ones_are_left_out(tmp_path):
    train = write(tmp_path / "train", [SCENES[0], SCENES[0], SCENES[1]])
    val = write(tmp_path / "val", [SCENES[0], SCENES[1]])
    train[0].path.write_bytes(b"")
    val[1].path.unlink()
    pairs = find_near_copies(train, val)
    assert [(record.image_id, other.image_id) for record, other in pairs] == [(0, 1)]
    assert find_near_copies(train[:1], val) == find_near_copies(train, val[1:]) == []


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_pictures_of_one_colour_have_no_hash(grey):
    assert hash_picture(np.full((50, 70, 3), grey, np.uint8)) is None


def test_hashes_are_compared_in_blocks(tmp_path, monkeypatch):
    train, val = write(tmp_path / "train", SCENES[:8]), write(tmp_path / "val", SCENES)
    monkeypatch.setattr("tools.dataset.near_copies._BLOCK", 5)
    pairs = find_near_copies(train, val)
    assert [(record.image_id, other.image_id) for record, other in pairs] == [(n, n) for n in range(8)]
