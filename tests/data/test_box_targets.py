"""Which location learns which box, compared with a plain reading of the rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.base import TargetConfig
from config.networks import BOX_STRIDES, level_sizes
from data.box_targets import box_targets, centerness_of
from data.samples import MaskWindow

SIZE = (128, 160)
TARGET = replace(load_config(30).target, scale_ranges=(-1.0, 16.0, 16.0, 32.0, 32.0, 64.0, 64.0, 128.0, 128.0, 1e8))
PIXEL = MaskWindow(0, 0, np.ones((1, 1), np.uint8))


def reference_targets(boxes: np.ndarray, classes: np.ndarray, config: TargetConfig) -> tuple[list, list]:
    labels, distances = [], []
    for level, ((height, width), stride) in enumerate(zip(level_sizes(*SIZE), BOX_STRIDES)):
        low, high = config.scale_ranges[2 * level : 2 * level + 2]
        for row in range(height):
            for column in range(width):
                x, y = np.float32([column * stride + stride // 2, row * stride + stride // 2])
                best, label, reach = np.inf, -1, None
                for (x1, y1, x2, y2), own in zip(boxes, classes):
                    cx, cy, radius = (x1 + x2) / 2, (y1 + y2) / 2, np.float32(config.centre_radius * stride)
                    near = max(cx - radius, x1) < x < min(cx + radius, x2) and (
                        max(cy - radius, y1) < y < min(cy + radius, y2)
                    )
                    sides = np.float32([x - x1, y - y1, x2 - x, y2 - y])
                    area = (x2 - x1) * (y2 - y1)
                    if near and low <= sides.max() <= high and area < best:
                        best, label, reach = area, own, sides / stride
                labels.append(label)
                if reach is not None:
                    distances.append(reach)
    return labels, distances


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 8), whole=st.booleans())
def test_equals_the_reference(seed, count, whole):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-10, 120, (count, 2))
    boxes = np.concatenate([corners, corners + rng.gamma(1.0, 40.0, (count, 2)) + 1], axis=1).astype(np.float32)
    boxes = np.round(boxes / 4) * 4 if whole else boxes  # sides and borders of levels meet locations
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    classes = rng.integers(0, 5, count)
    found = box_targets([PIXEL] * count, boxes, classes, picture=SIZE, size=SIZE, config=TARGET)
    labels, distances = reference_targets(boxes, classes, TARGET)
    assert found.labels.tolist() == labels
    np.testing.assert_allclose(found.distances, np.float32(distances).reshape(-1, 4), rtol=1e-6)
    assert found.labels.dtype == np.int64 and found.distances.dtype == np.float32
    assert (found.distances > 0).all()
    assert (centerness_of(found.distances) <= 1).all()


def test_of_equal_boxes_the_first_is_learnt():
    boxes = np.float32([[8, 8, 40, 40]] * 2)
    found = box_targets([PIXEL] * 2, boxes, np.int64([3, 1]), picture=SIZE, size=SIZE, config=TARGET)
    assert set(found.labels[found.labels >= 0]) == {3}


def test_centerness():
    distances = np.float32([[1, 1, 1, 1], [1, 2, 4, 2], [1, 1, 4, 9]])
    np.testing.assert_allclose(centerness_of(distances), [1, 0.5, 1 / 6], rtol=1e-6)
    assert centerness_of(np.zeros((0, 4), np.float32)).shape == (0,)
