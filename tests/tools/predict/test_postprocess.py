"""Decoded masks become instances of the picture's size."""

from __future__ import annotations

import numpy as np
import pytest

from config import load_config
from config.base import Config
from data.class_lists import ClassList
from model.decode.decoded import Decoded
from tools.predict.postprocess import to_instances


def right_half(config: Config) -> np.ndarray:
    """Return the mask, at the picture's size of 480 x 640, of probabilities of 1 from column 85 of 171 on."""
    probabilities = np.zeros((1, 128, 171), np.float32)
    probabilities[:, :, 85:] = 1
    decoded = Decoded(probabilities, np.float32([0.9]), np.array([0]))
    classes = ClassList(("thing",), (1,))
    [mask] = to_instances(decoded, config, classes, score=0.0, resized=(512, 683), original=(480, 640)).masks
    return mask


@pytest.mark.parametrize(("crop_masks", "width"), [("rounded", 683), ("truncated", 682)])
def test_an_enlarged_mask_is_cut_at_the_size_that_the_config_says(crop_masks, width):
    """A side of 682.67 pixels is 682 in PaddleDetection 0.5: everything is stretched to the right by 1/682."""
    mask = right_half(load_config(2, [f"data.crop_masks={crop_masks}"]))
    assert mask[0].argmax() == round((4 * 85) * 640 / width)
    assert mask[:, -1].all()


def test_configs_of_0_5_truncate():
    assert load_config(2).data.crop_masks == "truncated"
    assert load_config(0).data.crop_masks == load_config(11).data.crop_masks == "rounded"
