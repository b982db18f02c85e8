"""Boxes decoded by the fast and the plain version, against a direct reading of the paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.base import NMSConfig
from config.networks import BOX_STRIDES, level_sizes
from model.decode import plain_boxes
from model.decode.fast_boxes import Boxes, decode_boxes, find_candidates, ious, suppress
from model.head.roi_align import box_features, box_levels
from tests.support.boxes import SEEDS, entering_boxes
from tools.predict.mask_windows import masks_in_boxes

NMS = NMSConfig(score_thr=0.3, iou_thr=0.5, nms_pre=7)
SIZE = (64, 96)


def predictions(seed: int, classes: int = 3, share: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, centerness and distances of all locations of a picture of SIZE."""
    rng = np.random.default_rng(seed)
    count = sum(height * width for height, width in level_sizes(*SIZE))
    probabilities = rng.random((count, classes)) * (rng.random((count, 1)) < share)
    return tuple(
        part.astype(np.float32) for part in (probabilities, rng.random(count), rng.gamma(1.0, 2.0, (count, 4)))
    )


def reference_boxes(parts: tuple[np.ndarray, ...], nms: NMSConfig, limit: int) -> list[tuple]:
    """Return box, score and class, by loops over locations, classes and pairs of boxes."""
    probabilities, centerness, distances = parts
    entered, location = [], 0
    for (height, width), stride in zip(level_sizes(*SIZE), BOX_STRIDES):
        of_level = []
        for row in range(height):
            for column in range(width):
                x, y = column * stride + stride // 2, row * stride + stride // 2
                left, top, right, bottom = (np.float32(side * stride) for side in distances[location])
                for label, probability in enumerate(probabilities[location]):
                    if probability > nms.score_thr:
                        box = (x - left, y - top, x + right, y + bottom)
                        of_level.append((probability * centerness[location], box, label))
                location += 1
        entered += sorted(of_level, key=lambda item: -item[0])[: nms.nms_pre]
    kept = []
    for value, box, label in sorted(entered, key=lambda item: -item[0]):
        rivals = [other for _, other, other_label in kept if other_label == label]
        if all(iou(box, other) <= nms.iou_thr for other in rivals):
            kept.append((value, box, label))
    return [(box, np.sqrt(value), label) for value, box, label in kept[:limit]]


def iou(first: tuple, second: tuple) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (both - shared) if shared else 0.0


def plain_suppress(found: Boxes, *, iou_thr: float, limit: int) -> np.ndarray:
    """Suppress boxes by the plain version, of which graphs are exported."""
    entering = plain_boxes.BoxCandidates(*map(paddle.to_tensor, found))
    kept, products = plain_boxes.suppress(entering, iou_thr=iou_thr, limit=limit)
    real = products.numpy() > plain_boxes.EMPTY
    assert (np.diff(real.astype(int)) <= 0).all()
    return kept.numpy()[real]


def plain_decode(*parts: object, limit: int) -> Boxes:
    """Decode boxes by the plain version, of which graphs are exported."""
    *arrays, sizes, nms = parts
    found = plain_boxes.find_candidates(*map(paddle.to_tensor, arrays), sizes, nms)
    kept, products = plain_boxes.suppress(found, iou_thr=nms.iou_thr, limit=limit)
    boxes = Boxes(*(part.numpy() for part in (found.boxes.gather(kept), products, found.classes.gather(kept))))
    real = boxes.select(boxes.scores > plain_boxes.EMPTY)
    return real._replace(scores=np.sqrt(real.scores))


@pytest.mark.parametrize("decode", [decode_boxes, plain_decode])
@settings(max_examples=60)
@given(seed=SEEDS, share=st.sampled_from([0.0, 0.02, 0.2, 1.0]), limit=st.integers(1, 60))
def test_equals_the_reference(decode, seed, share, limit):
    parts = predictions(seed, share=share)
    found = decode(*parts, level_sizes(*SIZE), NMS, limit=limit)
    expected = reference_boxes(parts, NMS, limit)
    assert found.boxes.shape == (len(expected), 4) and found.boxes.dtype == found.scores.dtype == np.float32
    assert found.classes.dtype == np.int64
    for box, score, label, (wanted_box, wanted_score, wanted_label) in zip(*found, expected):
        np.testing.assert_allclose(box, wanted_box, rtol=1e-5)
        assert score == pytest.approx(wanted_score, rel=1e-5)
        assert label == wanted_label


def test_each_level_has_candidates_of_its_own():
    parts = predictions(0, share=1.0)
    few, many = (find_candidates(*parts, level_sizes(*SIZE), replace(NMS, nms_pre=count)) for count in (2, 10**6))
    assert len(few.boxes) == 2 * len(BOX_STRIDES)
    assert len(many.boxes) == (parts[0] > NMS.score_thr).sum()
    assert (np.diff(many.scores) <= 0).all()


SUPPRESSIONS = pytest.mark.parametrize("suppression", [suppress, plain_suppress])


@SUPPRESSIONS
def test_equal_boxes_of_two_classes_both_stay(suppression):
    boxes = np.float32([[0, 0, 10, 10]] * 3)
    found = Boxes(boxes, np.float32([0.9, 0.8, 0.7]), np.int64([1, 0, 1]))
    assert suppression(found, iou_thr=0.5, limit=5).tolist() == [0, 1]
    assert suppression(found, iou_thr=1.0, limit=5).tolist() == [0, 1, 2]  # not above it


@given(boxes=entering_boxes(), iou_thr=st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0]), limit=st.integers(1, 15))
def test_suppression_without_a_branch_keeps_the_same_boxes(boxes, iou_thr, limit):
    expected = suppress(boxes, iou_thr=iou_thr, limit=limit)
    np.testing.assert_array_equal(plain_suppress(boxes, iou_thr=iou_thr, limit=limit), expected)


@given(seed=SEEDS)
def test_iou_is_symmetric_and_1_of_equals(seed):
    corners = np.sort(np.random.default_rng(seed).integers(0, 9, (6, 2, 2)), axis=1).reshape(6, 4).astype(np.float32)
    overlaps = ious(corners, corners)
    np.testing.assert_array_equal(overlaps, overlaps.T)
    for index, box in enumerate(corners):
        for other in range(len(corners)):
            assert overlaps[index, other] == pytest.approx(iou(tuple(box), tuple(corners[other])))
        has_area = box[2] > box[0] and box[3] > box[1]
        assert overlaps[index, index] == pytest.approx(float(has_area))


@pytest.mark.parametrize(
    ("side", "level"), [(512, 2), (363, 2), (362, 1), (257, 1), (256, 0), (20, 0), (0, 0), (4000, 2)]
)
def test_the_level_of_a_box_follows_from_its_share_of_the_picture(side, level):
    assert box_levels(np.float32([[3, 5, 3 + side, 5 + side]]), (512, 512)).tolist() == [level]


def test_features_stand_in_the_order_of_the_boxes():
    """Each level's map has a constant value, and so has each picture's."""
    maps = [
        paddle.stack([paddle.full([2, 64 >> level, 64 >> level], 10.0 * level + picture) for picture in range(2)])
        for level in range(3)
    ]
    first, second = [[0, 0, 500, 500], [8, 8, 20, 20], [9, 9, 9, 30]], [[0, 0, 300, 300], [0, 0, 9, 9]]
    boxes = [np.float32(first), np.float32(second)]
    found = box_features(maps, boxes, [(512, 512), (512, 512)], side=2)
    assert found.shape == [5, 2, 2, 2]
    assert found.mean(axis=[1, 2, 3]).tolist() == [20, 0, 0, 11, 1]
    alone = box_features(maps, [boxes[0][:0], boxes[1]], [(512, 512), (512, 512)], side=2)
    assert alone.mean(axis=[1, 2, 3]).tolist() == [11, 1]


@given(seed=SEEDS)
def test_features_without_a_branch_are_the_same(seed):
    rng = np.random.default_rng(seed)
    maps = [paddle.to_tensor(rng.normal(size=(1, 2, side, side)).astype(np.float32)) for side in (64, 32, 16)]
    corners = rng.uniform(-20, 500, (9, 2))
    boxes = np.concatenate([corners, corners + rng.gamma(0.5, 300, (9, 2))], axis=1).astype(np.float32)
    boxes[0, 2:] = boxes[0, :2]
    expected = box_features(maps, [boxes], [(460, 512)], side=3)
    size = tuple(map(paddle.to_tensor, (460.0, 512.0)))
    given_ = plain_boxes.box_features(maps, paddle.to_tensor(boxes), size, side=3)
    np.testing.assert_allclose(given_.numpy(), expected.numpy(), atol=1e-5)


@given(seed=SEEDS, threshold=st.sampled_from([0.3, 0.5]))
def test_masks_without_a_branch_are_the_same(seed, threshold):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.choice([0, 3.5, 20, 41.2, 64], (6, 2, 2), replace=True), axis=1).reshape(6, 4)
    boxes = (corners + rng.uniform(0, 0.5, (6, 1))).clip(0, 64).astype(np.float32)
    soft = rng.random((6, 28, 28)).astype(np.float32)
    given_ = plain_boxes.paste_masks(*map(paddle.to_tensor, (soft, boxes)), (64, 96), threshold=threshold).numpy()
    assert given_.dtype == np.uint8 and given_.max(initial=0) <= 1
    real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    assert not given_[~real].any()
    windows = masks_in_boxes(soft[real], boxes[real], original=(64, 96), threshold=threshold)
    for mask, (top, left, pixels) in zip(given_[real], windows):
        expected = np.zeros((64, 96), bool)
        expected[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        assert (mask != expected).sum() <= 1  # rounding, where a probability is the threshold


@given(height=st.integers(1, 64), width=st.integers(1, 96))
def test_the_picture_ends_where_the_zeros_begin(height, width):
    images = np.zeros((1, 3, 64, 96), np.float32)
    images[0, :, :height, :width] = np.random.default_rng(0).integers(-1, 2, (3, height, width)) * 0.5
    images[0, 1, height - 1, width - 1] = -0.5
    assert [float(side) for side in plain_boxes.picture_size(paddle.to_tensor(images))] == [height, width]
