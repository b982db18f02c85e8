"""The chain of augmentations: probabilities and limits of each step, and consistent samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from config.base import AugmentConfig, DataConfig
from data import augment as augmentation
from data.augment import augment, needs_second, random_crop
from data.geometry import flip, flip_vertical, resize, turn
from data.images import read_image
from data.mixing import copy_paste, cutmix, mixup
from data.preprocess import preprocess, resized_size
from data.samples import MaskWindow, Sample
from tests.support.parity import COCO_TINY, needs_coco
from tests.support.samples import (
    MAX_INSTANCES,
    SAMPLES,
    SEEDS,
    assert_consistent,
    assert_equal,
    assert_masks_match_paint,
    full_masks,
    painted_sample,
)

PLAIN = AugmentConfig(flip=0.0)
EVERYTHING = AugmentConfig(distort=0.5, crop=0.7, short_sides=(30, 50, 70), flip=0.5, flip_vertical=0.5, turn=0.5)
SMALL = DataConfig(short_side=40, long_side=66)


def apply_augment(
    sample: Sample, config: AugmentConfig, seed: int = 0, second: Sample | None = None, data=SMALL
) -> Sample:
    return augment(sample, second, augment=config, data=data, rng=np.random.default_rng(seed))


def unscaled_settings(sample: Sample) -> DataConfig:
    """Return settings with which the picture is not resized."""
    return DataConfig(short_side=min(sample.image.shape[:2]), long_side=max(sample.image.shape[:2]))


@settings(max_examples=150)
@given(
    sample=SAMPLES,
    second=st.one_of(st.none(), SAMPLES),
    probabilities=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5),
    short_sides=st.sampled_from([(), (30,), (20, 50)]),
    seed=SEEDS,
)
def test_every_chain_gives_a_consistent_sample_that_the_seed_decides(sample, second, probabilities, short_sides, seed):
    names = ("distort", "crop", "flip", "flip_vertical", "turn")
    config = AugmentConfig(
        copy_paste=0.3, mixup=0.3, cutmix=0.3, short_sides=short_sides, **dict(zip(names, probabilities))
    )
    copies = [each and replace(each, image=each.image.copy()) for each in (sample, second)]
    result = apply_augment(sample, config, seed, second)
    assert_consistent(result)
    assert set(result.gt_classes) <= set(sample.gt_classes) | set(second.gt_classes if second else ())
    assert_equal(apply_augment(copies[0], config, seed, copies[1]), result)
    assert_equal(sample, copies[0])  # the inputs are not changed


def test_another_seed_gives_another_sample():
    images = {apply_augment(painted_sample(1, 60, 80), EVERYTHING, seed).image.tobytes() for seed in range(20)}
    assert len(images) > 15


@pytest.mark.parametrize("data", [SMALL, replace(SMALL, resize_by="factor")])
@pytest.mark.parametrize("size", [(60, 90), (61, 97), (123, 50), (17, 23), (1, 5000)])
def test_without_augmentation_the_picture_is_that_of_evaluation(data, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    empty = Sample(image, (), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), "noise.png")
    as_evaluated = preprocess(image, data) * np.float32(data.std) + np.float32(data.mean)
    assert np.array_equal(apply_augment(empty, PLAIN, data=data).image, np.rint(as_evaluated).astype(np.uint8))


@pytest.mark.parametrize("resize_by", ["size", "factor"])
def test_masks_follow_the_picture_to_its_size(resize_by):
    sample = painted_sample(2, 61, 97)
    result = apply_augment(sample, PLAIN, data=replace(SMALL, resize_by=resize_by))
    height, width = result.image.shape[:2]
    assert abs(height - 40) <= 1 and abs(width - 64) <= 1
    expected = resize(sample, height=height, width=width)
    assert np.array_equal(full_masks(result), full_masks(expected))
    assert np.array_equal(result.gt_boxes, expected.gt_boxes)


def test_short_side_is_one_of_those_listed_and_the_long_side_is_limited():
    config, data = replace(PLAIN, short_sides=(20, 30, 45)), DataConfig(short_side=99, long_side=60)
    sizes = {apply_augment(painted_sample(1, 50, 80), config, seed, data=data).image.shape[:2] for seed in range(40)}
    assert sizes == {resized_size(50, 80, short_side=side, long_side=60) for side in (20, 30, 45)}
    assert sizes == {(20, 32), (30, 48), (38, 60)}


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("name", "change"), [("flip", flip), ("flip_vertical", flip_vertical), ("turn", turn)])
def test_flips_and_turns_have_their_probability(name, change, probability):
    sample = painted_sample(7, 30, 40)
    config = replace(PLAIN, **{name: probability})
    changed = 0
    for seed in range(100):
        result = apply_augment(sample, config, seed, data=unscaled_settings(sample))
        is_changed = not np.array_equal(result.image, sample.image)
        assert_equal(result, change(sample) if is_changed else sample)
        changed += is_changed
    assert {0.0: changed == 0, 0.5: 30 < changed < 70, 1.0: changed == 100}[probability]


def test_colours_change_the_picture_only():
    sample = painted_sample(7, 30, 40)
    result = apply_augment(sample, replace(PLAIN, distort=1.0), data=unscaled_settings(sample))
    assert not np.array_equal(result.image, sample.image)
    assert_equal(replace(result, image=sample.image), sample)


@pytest.mark.parametrize("name", ["copy_paste", "mixup", "cutmix"])
def test_each_kind_of_mixing(name):
    config = replace(PLAIN, **{name: 1.0})
    sample, second = painted_sample(1, 30, 40), painted_sample(2, 30, 40, first_class=MAX_INSTANCES)
    assert all(needs_second(config, np.random.default_rng(seed)) for seed in range(50))
    seed = 3
    result = apply_augment(sample, config, seed, second, data=unscaled_settings(sample))
    rng = np.random.default_rng(seed)
    rng.choice(3, p=[1, 0, 0])  # draws the kind of mixing
    if name == "copy_paste":
        expected = copy_paste(sample, second, rng=rng)
    else:
        expected = {"mixup": mixup, "cutmix": cutmix}[name](sample, second, config=config, rng=rng)
    assert_equal(result, expected)


def test_kinds_of_mixing_have_their_probabilities():
    """Each kind makes another result of a white disc in a white picture and a black picture."""
    config = replace(PLAIN, copy_paste=0.1, mixup=0.2, cutmix=0.4)
    disc = ((np.indices((30, 30)) - 14.5) ** 2).sum(axis=0) < 15**2
    black = painted_sample(0, 30, 40, count=0)
    white = Sample(
        image=np.full((30, 40, 3), 255, np.uint8),
        gt_masks=(MaskWindow(0, 5, disc.astype(np.uint8)),),
        gt_boxes=np.float32([[5, 0, 35, 30]]),
        gt_classes=np.array([0]),
        name="white.png",
    )
    seen = []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        second = white if needs_second(config, rng) else None
        image = augment(black, second, augment=config, data=unscaled_settings(black), rng=rng).image[..., 0]
        is_rectangle = (image > 0).sum() == (image > 0).any(axis=0).sum() * (image > 0).any(axis=1).sum()
        if second is None:
            seen.append("none")
            assert not image.any()
        elif not set(np.unique(image)) <= {0, 255}:
            seen.append("mixup")
        else:
            seen.append("cutmix" if is_rectangle else "copy_paste")
    shares = {kind: seen.count(kind) / 600 for kind in seen}
    assert shares == pytest.approx({"none": 0.3, "copy_paste": 0.1, "mixup": 0.2, "cutmix": 0.4}, abs=0.05)


def test_no_second_picture_without_mixing():
    assert not any(needs_second(PLAIN, np.random.default_rng(seed)) for seed in range(50))


def test_second_picture_is_needed_as_often_as_the_probabilities_say():
    config = AugmentConfig(copy_paste=0.2, mixup=0.1, cutmix=0.2)
    assert 0.4 < np.mean([needs_second(config, np.random.default_rng(seed)) for seed in range(400)]) < 0.6


@settings(max_examples=150)
@given(sample=SAMPLES, seed=SEEDS)
def test_random_crop_is_a_part_of_the_picture_with_instances(sample, seed):
    part = random_crop(sample, np.random.default_rng(seed))
    assert_consistent(part)
    assert_masks_match_paint(part)
    assert len(part) or not len(sample)
    if not len(sample):
        assert part is sample


def test_random_crop_keeps_its_limits_of_size():
    """The picture is full of small instances, so that every crop contains one and none is refused."""
    places = [(y, x) for y in range(0, 200, 20) for x in range(0, 300, 20)]
    sample = Sample(
        image=np.zeros((200, 300, 3), np.uint8),
        gt_masks=tuple(MaskWindow(y, x, np.ones((20, 20), np.uint8)) for y, x in places),
        gt_boxes=np.float32([[x, y, x + 20, y + 20] for y, x in places]),
        gt_classes=np.arange(len(places)),
        name="tiles.png",
    )
    parts = [random_crop(sample, np.random.default_rng(seed)).image.shape[:2] for seed in range(300)]
    heights, widths = np.array([part for part in parts if part != (200, 300)]).T / [[200], [300]]
    scales, aspects = np.sqrt(heights * widths), widths / heights
    assert 0.29 < scales.min() < 0.35 and scales.max() > 0.95
    assert 0.48 < aspects.min() < 0.6 and 1.7 < aspects.max() < 2.05
    assert 0.4 < len(scales) / len(parts) < 0.6  # no part overlaps with a tile by 0.1: it is the limit 0 or no crop


def test_random_crop_uses_each_limit_equally_often():
    """The instance is as large as the picture, so that the IoU of a crop is its share of the area."""
    mask = MaskWindow(0, 0, np.ones((100, 100), np.uint8))
    sample = Sample(np.zeros((100, 100, 3), np.uint8), (mask,), np.float32([[0, 0, 100, 100]]), np.array([0]), "a.png")
    parts = [random_crop(sample, np.random.default_rng(seed)) for seed in range(400)]
    assert 0.09 < np.mean([part is sample for part in parts]) < 0.2  # a seventh
    areas = np.array([part.gt_masks[0].area / 10000 for part in parts if part is not sample])
    # All parts of the limit 0.9, and of those of 0, 0.1, 0.3, 0.5, 0.7 the shares that a uniform scale gives.
    by_limit = [(1 - 0.9**0.5) / (1 - max(limit**0.5, 0.3)) for limit in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)]
    assert np.mean(areas >= 0.9) == pytest.approx(np.mean(by_limit), abs=0.07)  # 0.29
    assert (areas < 0.3).any()


def test_random_crop_keeps_the_instances_whose_centre_it_holds():
    """Each pixel contains its column, which shows where a crop is. All centres have the same height."""
    columns = np.tile(np.arange(120, dtype=np.uint8)[None, :, None], (60, 1, 3))
    centres = [10, 40, 80, 110]
    sample = Sample(
        image=columns,
        gt_masks=tuple(MaskWindow(0, x - 8, np.ones((60, 16), np.uint8)) for x in centres),
        gt_boxes=np.float32([[x - 8, 0, x + 8, 60] for x in centres]),
        gt_classes=np.arange(4),
        name="columns.png",
    )
    kept = set()
    for seed in range(200):
        part = random_crop(sample, np.random.default_rng(seed))
        left, right = int(part.image[0, 0, 0]), int(part.image[0, -1, 0]) + 1
        assert part.gt_classes.tolist() == [index for index, x in enumerate(centres) if left < x < right]
        for box, number in zip(part.gt_boxes, part.gt_classes):
            x1, x2 = max(centres[number] - 8 - left, 0), min(centres[number] + 8, right) - left
            assert box.tolist() == [x1, 0, x2, part.image.shape[0]]
        kept.add(len(part))
    assert kept == {1, 2, 3, 4}


def test_random_crop_tries_again_where_the_mask_is_outside():
    """Many crops contain the centre of the box but not the only pixel of the instance."""
    mask = MaskWindow(0, 0, np.ones((1, 1), np.uint8))
    sample = Sample(np.zeros((100, 100, 3), np.uint8), (mask,), np.float32([[0, 0, 100, 100]]), np.array([0]), "a.png")
    parts = [random_crop(sample, np.random.default_rng(seed)) for seed in range(100)]
    assert all(len(part) == 1 for part in parts)
    assert any(part is not sample for part in parts)


def test_each_limit_of_a_crop_has_windows_of_its_own(monkeypatch):
    """PaddleDetection draws new windows for each limit. No window has an IoU of 0.1 with this small instance."""
    drawn = []
    draw = augmentation._draw_windows
    monkeypatch.setattr(augmentation, "_draw_windows", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    sample = Sample(
        np.zeros((100, 100, 3), np.uint8),
        (MaskWindow(50, 50, np.ones((2, 2), np.uint8)),),
        np.float32([[50, 50, 52, 52]]),
        np.array([0]),
        "a.png",
    )
    for seed in range(20):
        random_crop(sample, np.random.default_rng(seed))
    assert len(drawn) > 20 and len({windows.tobytes() for windows in drawn}) == len(drawn)


def test_crop_has_its_probability():
    sample = painted_sample(4, 60, 80)
    small = [apply_augment(sample, replace(PLAIN, crop=p), seed) for p in (0.0, 1.0) for seed in range(60)]
    changed = [not np.array_equal(each.image, apply_augment(sample, PLAIN).image) for each in small]
    assert not any(changed[:60]) and sum(changed[60:]) > 40


def test_no_mask_of_the_size_of_the_picture_is_kept():
    masks = tuple(MaskWindow(100 * i, 70 * i, np.ones((20, 30), np.uint8)) for i in range(8))
    boxes = np.float32([[m.left, m.top, m.right, m.bottom] for m in masks])
    sample = Sample(np.zeros((1000, 1000, 3), np.uint8), masks, boxes, np.arange(8), "large.png")
    config = replace(EVERYTHING, short_sides=(900, 1100))
    for seed in range(10):
        result = apply_augment(sample, config, seed, data=DataConfig(long_side=2000))
        for mask in result.gt_masks:
            held = mask.pixels if mask.pixels.base is None else mask.pixels.base
            assert held.nbytes < 1100 * 1100 / 20


@needs_coco
def test_on_photographs():
    coco = COCO(str(COCO_TINY / "annotations" / "instances_train2017.json"))
    samples = []
    for entry in coco.loadImgs(coco.getImgIds()[:6]):
        annotations = coco.loadAnns(coco.getAnnIds(entry["id"], iscrowd=False))
        masks = tuple(MaskWindow.from_full(coco.annToMask(annotation)) for annotation in annotations)
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (annotation["bbox"] for annotation in annotations)]
        samples.append(
            Sample(
                image=read_image(COCO_TINY / "train2017" / entry["file_name"]),
                gt_masks=masks,
                gt_boxes=np.array(boxes, np.float32).reshape(-1, 4),
                gt_classes=np.array([annotation["category_id"] for annotation in annotations], np.int64),
                name=entry["file_name"],
            )
        )
    config = replace(EVERYTHING, short_sides=(352, 512), crop=1.0, copy_paste=0.3, mixup=0.3, cutmix=0.3)
    data = DataConfig(short_side=448, long_side=768)
    for seed, (sample, second) in enumerate(zip(samples, samples[1:])):
        result = apply_augment(sample, config, seed, second, data)
        assert_consistent(result)
        assert len(result)
        assert min(result.image.shape[:2]) in (352, 512) or max(result.image.shape[:2]) == 768
