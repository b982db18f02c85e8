"""Batches of training equal a plain computation with full-size masks, and need little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from data.coco import read_coco
from data.shapes import CLASS_NAMES, Scene, write_coco
from data.training_set import TrainingSet
from tests.support import trainings
from tests.support.reference_targets import MASK_STRIDE, assert_same_targets, reference_batch
from tools.common.kinds import kind_of


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    mixup=st.sampled_from(["augment.mixup=1", "augment.mixup=0"]),
    skip_empty=st.sampled_from(["target.skip_empty_masks=true", "target.skip_empty_masks=false"]),
)
def test_batches_equal_the_reference(seed, mixup, skip_empty):
    folder = trainings.data_set()
    overrides = ("augment.distort=0.5", "augment.crop=0.7", "augment.short_sides=48,64,96", "target.soft_masks=false")
    config = trainings.config(*overrides, mixup, skip_empty)
    data = TrainingSet(
        read_coco(folder / "annotations.json", folder / "images").records,
        config,
        seed=seed,
        make_targets=kind_of(config).targets,
    )
    ours = data.batch(1, range(3))
    images, targets = reference_batch(data, 1, range(3))
    np.testing.assert_array_equal(ours.images, images)
    for mine, reference in zip(ours.targets, targets):
        assert_same_targets(mine, reference)


def test_a_picture_with_a_hundred_instances_takes_little_memory(tmp_path):
    random = np.random.default_rng(0)
    masks = np.zeros((100, 480, 640), bool)
    for mask in masks:
        top, left, height, width = random.integers((0, 0, 20, 20), (400, 560, 300, 300))
        mask[top : top + height, left : left + width] = True
    image = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    write_coco(scenes=[Scene(image, masks, np.arange(100) % len(CLASS_NAMES))], output=tmp_path)
    config = load_config(2, ["augment.crop=0", "augment.short_sides=512"])
    records = read_coco(tmp_path / "annotations.json", tmp_path / "images").records
    data = TrainingSet(records, config, seed=0, make_targets=kind_of(config).targets)
    data.batch(0, [0])  # caches are filled once
    tracemalloc.start()
    try:
        batch = data.batch(1, [0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(batch.targets[0].masks[MASK_STRIDE]) > 80
    assert peak < 60 * 2**20
