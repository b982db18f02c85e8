"""Batches of training depend on the seed only, and an epoch contains every picture once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.base import Config
from config.errors import InputError
from data.coco import Record, read_coco
from data.training_set import Batch, TrainingSet, load_sample
from tests.support import trainings
from tests.support.reference_targets import MASK_STRIDE
from tools.common.kinds import descriptor

AUGMENTED = ("augment.mixup=0.5", "augment.crop=0.5", "augment.distort=0.5", "augment.short_sides=48,64,96")


@lru_cache(maxsize=1)
def all_records() -> tuple[Record, ...]:
    folder = trainings.data_set()
    return read_coco(folder / "annotations.json", folder / "images").records


def training_set(*overrides: str, seed: int = 3) -> TrainingSet:
    return TrainingSet(
        all_records(), trainings.config(*overrides), seed=seed, make_targets=descriptor("solov2").targets
    )


def assert_same(first: Batch, second: Batch) -> None:
    assert first.names == second.names
    np.testing.assert_array_equal(first.images, second.images)
    assert len(first.targets) == len(second.targets)
    for ours, theirs in zip(first.targets, second.targets):
        for found, expected in zip(ours, theirs):
            np.testing.assert_equal(found, expected)


def test_a_batch_depends_on_the_seed_and_its_place_only():
    """Batches in order equal those of a fresh data set and those of threads in another order."""
    jobs = [(epoch, [first, first + 1]) for epoch in (0, 1, 7) for first in (0, 2, 6)]
    data = training_set(*AUGMENTED)
    in_order = [data.batch(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(lambda job: data.batch(*job), jobs[::-1]))[::-1]
    for job, batch, other in zip(jobs, in_order, backwards):
        assert_same(batch, other)
        assert_same(batch, training_set(*AUGMENTED).batch(*job))


def damaged_training_set(folder: Path, *names: str) -> TrainingSet:
    trainings.damaged_data_set(folder, *names)
    records = read_coco(folder / "annotations.json", folder / "images").records
    assert len(records) == trainings.PICTURES  # the check of all files did not notice
    return TrainingSet(records, trainings.config(*AUGMENTED), seed=3, make_targets=descriptor("solov2").targets)


def test_a_picture_that_cannot_be_read_is_replaced_by_the_next_one(tmp_path):
    data = damaged_training_set(tmp_path / "damaged", "000002.jpg", "000008.jpg")
    batches = [data.batch(epoch, range(trainings.PICTURES)) for epoch in (0, 1)]
    names = [Path(name.partition(" + ")[0]).name for name in batches[0].names]
    assert sorted(names) == [f"{number:06d}.jpg" for number in (1, 1, 3, 3, 4, 5, 6, 7)]
    assert {Path(path).name for path in data.unreadable} == {"000002.jpg", "000008.jpg"}
    assert all("damaged JPEG" in reason for reason in data.unreadable.values())
    again = TrainingSet(data.records, data.config, seed=3, make_targets=data.make_targets)
    for epoch in (1, 0):  # whatever was read before
        assert_same(again.batch(epoch, range(trainings.PICTURES)), batches[epoch])


def test_an_error_names_a_data_set_of_which_nothing_can_be_read(tmp_path):
    names = [f"{number:06d}.jpg" for number in range(1, trainings.PICTURES + 1)]
    with pytest.raises(InputError, match=r"0000\d\d.jpg: damaged JPEG.* none of 8 pictures in a row can be read"):
        damaged_training_set(tmp_path / "damaged", *names).batch(0, [0])


def test_another_seed_or_epoch_is_another_order_and_another_augmentation():
    first, other = training_set(*AUGMENTED, seed=3), training_set(*AUGMENTED, seed=4)
    everything = range(len(first))
    orders = [[data.index(epoch, place) for place in everything] for data in (first, other) for epoch in range(3)]
    assert all(sorted(order) == list(everything) for order in orders)
    assert len(set(map(tuple, orders))) == 6
    samples = [data.sample(epoch, 0, index=2) for data in (first, other) for epoch in (0, 1)]
    samples.append(first.sample(0, 1, index=2))
    assert len({sample.image.tobytes() for sample in samples}) == 5


@settings(max_examples=50)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_an_epoch_is_every_picture_once(count, batch_size, accumulate, world_size, epoch):
    """This counts all steps, parts and processes; the pictures that do not fill a step are left out."""
    data = counted(count, batch_size, accumulate)
    total = batch_size * accumulate * world_size
    steps = data.steps_per_epoch(world_size)
    assert (data.total_batch(world_size), steps) == (total, count // total)
    seen = []
    for step in range(epoch * steps, (epoch + 1) * steps):
        for part in range(accumulate):
            for rank in range(world_size):
                found_epoch, places = data.places(step, part, rank=rank, world_size=world_size)
                assert (found_epoch, len(places)) == (epoch, batch_size)
                seen += [data.index(epoch, place) for place in places]
    assert len(set(seen)) == len(seen) == steps * total
    assert set(seen) <= set(range(count))


@pytest.mark.parametrize(("accumulate", "world_size"), [(1, 4), (4, 1), (2, 2)])
def test_processes_and_parts_share_the_batch_of_one(accumulate, world_size):
    together, apart = counted(23, 8, 1), counted(23, 2, accumulate)
    for step in range(5):
        shared = [
            apart.places(step, part, rank=rank, world_size=world_size)
            for part in range(accumulate)
            for rank in range(world_size)
        ]
        epoch, places = together.places(step, 0, rank=0, world_size=1)
        assert {found for found, _ in shared} == {epoch}
        assert sum((found for _, found in shared), []) == places


def counted(count: int, batch_size: int, accumulate: int) -> TrainingSet:
    """Return a training set whose records are numbers, for tests that only ask for indices."""
    settings = (f"train_cfg.batch_size={batch_size}", f"train_cfg.accumulate={accumulate}")
    return TrainingSet(
        range(count), load_config(trainings.CONFIG, settings), seed=0, make_targets=descriptor("solov2").targets
    )


def test_pictures_grow_from_epoch_to_epoch():
    data = training_set("augment.short_sides=32,48,64", "augment.side_by_epoch=true")
    sizes = [data.sample(epoch, place, place).image.shape[:2] for epoch in range(5) for place in range(3)]
    assert sizes == [(side, side) for side in (32, 48, 64, 64, 64) for _ in range(3)]


def test_a_batch_is_padded_to_its_largest_picture():
    """One picture has 64 x 64 pixels and one is enlarged to 96 x 96."""
    data = training_set("augment.short_sides=64,96", "data.long_side=96", "augment.turn=0")
    places = range(6)
    sizes = [data.sample(0, place, data.index(0, place)).image.shape[0] for place in places]
    small, large = sizes.index(64), sizes.index(96)
    batch = data.batch(0, [small, large])
    assert (batch.images.shape, batch.images.dtype) == ((2, 3, 96, 96), np.float32)
    assert not batch.images[0, :, 64:].any() and not batch.images[0, :, :, 64:].any()
    assert batch.images[0, :, :64, :64].all(axis=0).any() and batch.images[1, :, 64:, 64:].any()
    assert [target.masks[MASK_STRIDE].shape[1:] for target in batch.targets] == [(24, 24)] * 2
    assert not batch.targets[0].masks[MASK_STRIDE][:, 16:].any()
    assert batch.names == tuple(str(all_records()[data.index(0, place)].path) for place in (small, large))
    assert data.batch(0, [small]).images.shape == (1, 3, 64, 64)


def test_a_picture_of_another_size_than_annotated_is_named():
    record = replace(all_records()[0], width=65)
    with pytest.raises(InputError, match="64 x 64 pixels and 65 x 64 in the annotations") as error:
        load_sample(record, Config())
    assert str(error.value).startswith(str(record.path)) and "\n" not in str(error.value)


def test_instances_without_a_pixel_are_left_out():
    record = all_records()[0]
    first = record.annotations[0]
    nothing = first._replace(segmentation=(np.array([3.1, 3.1, 3.2, 3.1, 3.2, 3.2]),), class_index=0)
    mixed = load_sample(replace(record, annotations=(nothing, first, nothing)), Config())
    assert len(mixed) == len(mixed.gt_boxes) == 1
    assert mixed.gt_classes.tolist() == [first.class_index]
    np.testing.assert_allclose(mixed.gt_boxes, [first.box])


@pytest.mark.parametrize("annotated", [True, False])
def test_a_picture_of_which_nothing_is_left_gives_empty_targets(annotated):
    """This holds if all its masks are empty and if it has no annotations."""
    record = all_records()[0]
    nothing = record.annotations[0]._replace(segmentation=(np.array([3.1, 3.1, 3.2, 3.1, 3.2, 3.2]),))
    records = [replace(record, annotations=(nothing,) * 2 if annotated else ())] * 4
    data = TrainingSet(records, trainings.config(*AUGMENTED), seed=0, make_targets=descriptor("solov2").targets)
    sample = load_sample(records[0], Config())
    assert (len(sample), sample.gt_boxes.shape, sample.gt_boxes.dtype) == (0, (0, 4), np.float32)
    for epoch in range(4):
        for target in data.batch(epoch, [0, 1]).targets:
            assert (target.labels == -1).all()
            assert len(target.masks[MASK_STRIDE]) == len(target.cells) == len(target.mask_rows) == 0
