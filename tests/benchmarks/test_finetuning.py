"""The new task of the fine-tuning benchmark is what its text says; the trainings take too long for a test."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from config import load_config
from data.coco import read_coco
from data.images import read_image
from tests.benchmarks.finetuning import cut_pictures
from tests.support.squares import write_squares


def test_pictures_have_half_the_size_and_dark_objects(tmp_path):
    squares = [(10, 20, 8), (40, 40, 16), (1, 1, 3)]  # the last one is too small at half the size
    write_squares(tmp_path, "train", [squares], ["object"])
    records = read_coco(tmp_path / "train.json", tmp_path / "train").records
    config = load_config(21)
    [picture] = cut_pictures(records, config, tmp_path / "cut")
    image = read_image(tmp_path / "cut" / picture.file_name)
    assert (picture.height, picture.width) == image.shape[:2] == (32, 32)
    masks = [coco_mask.decode(instance.rle) for instance in picture.instances]
    expected = np.zeros((2, 32, 32), np.uint8)
    expected[0, 10:14, 5:9] = 1
    expected[1, 20:28, 20:28] = 1
    np.testing.assert_array_equal(masks, expected)
    inside = expected.any(axis=0)
    red = image[..., 0]
    assert red[inside].max() < red[0, -1]  # brighter squares have become darker ones
