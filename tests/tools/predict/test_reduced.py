"""Instances at another size of their picture."""

from __future__ import annotations

import cv2
import numpy as np

from tools.predict.instances import Instances
from tools.predict.reduced import draw_reduced, reduce_instances, resize_crop


def disc(side: int, centre: int, radius: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (centre, centre), radius, 1, -1)
    return mask > 0


def test_masks_are_enlarged():
    small = Instances.from_masks(disc(50, 20, 15)[None], [1.0], [0], ["disc"], [1])
    crop = resize_crop(small.crops[0], small.boxes[0].tolist(), (4, 4), (200, 200))
    enlarged = Instances.from_crops((200, 200), [crop], [1.0], [0], ["disc"], [1]).masks[0]
    expected = cv2.resize(small.masks[0].astype(np.float32), (200, 200)) > 0.5
    assert (enlarged & expected).sum() / (enlarged | expected).sum() > 0.97


def test_masks_are_reduced_and_small_ones_keep_a_pixel():
    masks = np.array([disc(400, 200, 100), disc(400, 20, 1)])
    found = Instances.from_masks(masks, [0.9, 0.8], [0, 0], ["disc"], [1])
    small = reduce_instances(found, (40, 40))
    expected = disc(40, 20, 10)
    assert (small.masks[0] & expected).sum() / (small.masks[0] | expected).sum() > 0.9
    assert small.masks[1].sum() == 1 and small.scores.tolist() == found.scores.tolist()


def test_drawings_of_reduced_pictures():
    found = Instances.from_masks(disc(400, 200, 100)[None], [0.9], [0], ["disc"], [1])
    image = np.zeros((40, 40, 3), np.uint8)
    drawn = draw_reduced(found, image)
    assert drawn.shape == image.shape and drawn[20, 12].any() and not drawn[38, 2].any()
    full = np.zeros((400, 400, 3), np.uint8)
    np.testing.assert_array_equal(draw_reduced(found, full), found.draw(full))
