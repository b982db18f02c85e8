"""Random samples whose pixels show their instance, and the assertions that hold for every sample."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from data.samples import MaskWindow, Sample

MAX_INSTANCES = 8


def painted_sample(seed: int, height: int, width: int, count: int = MAX_INSTANCES, first_class: int = 0) -> Sample:
    """Return disjoint instances of square blocks, each of its own class; the value of its pixels is `class + 1`."""
    rng = np.random.default_rng(seed)
    cell = int(rng.integers(1, 8))
    cells = rng.integers(0, count + 1, (-(-height // cell), -(-width // cell)))
    labels = cells.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    classes = [label - 1 for label in range(1, count + 1) if (labels == label).any()]
    masks = tuple(MaskWindow.from_full((labels == number + 1).astype(np.uint8)) for number in classes)
    values = np.where(labels > 0, labels + first_class, 0).astype(np.uint8)
    return Sample(
        image=np.ascontiguousarray(values[..., None].repeat(3, axis=2)),
        gt_masks=masks,
        gt_boxes=np.array([(m.left, m.top, m.right, m.bottom) for m in masks], np.float32).reshape(-1, 4),
        gt_classes=np.array(classes, np.int64) + first_class,
        name=f"{seed}.png",
    )


SIDES = st.integers(1, 60)
SEEDS = st.integers(0, 2**32 - 1)
SAMPLES = st.builds(painted_sample, seed=SEEDS, height=SIDES, width=SIDES, count=st.integers(0, MAX_INSTANCES))


def full_masks(sample: Sample) -> np.ndarray:
    """Return uint8 [n, H, W]."""
    height, width = sample.image.shape[:2]
    return np.array([mask.to_full(height, width) for mask in sample.gt_masks], np.uint8).reshape(-1, height, width)


def assert_consistent(sample: Sample) -> None:
    height, width = sample.image.shape[:2]
    count = len(sample)
    assert sample.image.dtype == np.uint8 and sample.image.shape == (height, width, 3)
    assert sample.image.flags.c_contiguous
    assert sample.gt_boxes.dtype == np.float32 and sample.gt_boxes.shape == (count, 4)
    assert sample.gt_classes.dtype == np.int64 and sample.gt_classes.shape == (count,)
    x1, y1, x2, y2 = sample.gt_boxes.T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x1 < x2).all() and (y1 < y2).all()
    assert (x2 <= width).all() and (y2 <= height).all()
    for mask in sample.gt_masks:
        assert type(mask.top) is int and type(mask.left) is int
        assert mask.top >= 0 and mask.left >= 0 and mask.bottom <= height and mask.right <= width
        assert mask.pixels.dtype == np.uint8 and mask.pixels.flags.c_contiguous
        assert mask.pixels.max() == 1
        tight = all(side.any() for side in (mask.pixels[0], mask.pixels[-1], mask.pixels[:, 0], mask.pixels[:, -1]))
        assert tight, "a window with an empty border"


def assert_masks_match_paint(sample: Sample) -> None:
    """Assert that each mask is where the picture has its value; not for blended or scaled pictures."""
    for mask, number in zip(full_masks(sample), sample.gt_classes):
        assert np.array_equal(mask > 0, sample.image[..., 0] == number + 1)


def assert_equal(ours: Sample, expected: Sample, *, tolerance: float = 0.0) -> None:
    assert np.array_equal(ours.image, expected.image)
    assert np.array_equal(full_masks(ours), full_masks(expected))
    np.testing.assert_allclose(ours.gt_boxes, expected.gt_boxes, atol=tolerance, rtol=0)
    assert np.array_equal(ours.gt_classes, expected.gt_classes)
