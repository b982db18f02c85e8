"""CenterMask2 in training and prediction: losses, targets, batches, and pictures without instances."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.base import Config
from data.box_targets import BoxTargets, box_targets
from data.samples import MaskWindow
from model.centermask2 import CenterMask2
from model.losses.boxes import generalized_iou
from model.losses.roi import choose_boxes, cut_mask, mask_ious
from tests.support import tiny
from tools.common.kinds import build_network, descriptor
from tools.engine.dynamic import DynamicEngine
from tools.predict.load import untrained_network
from tools.train.optimizer import trainable_parameters

SIZE = (64, 96)


@cache
def config(*overrides: str) -> Config:
    return load_config(tiny.CENTERMASK2, [*tiny.CENTERMASK2_OVERRIDES, *overrides])


def network(*overrides: str) -> CenterMask2:
    paddle.seed(0)
    return build_network(config(*overrides))


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, *SIZE)).astype(np.float32)


def targets(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> BoxTargets:
    """Return the targets of rectangles of the classes 0, 1, 2 ..."""
    masks = [MaskWindow(y1, x1, np.ones((y2 - y1, x2 - x1), np.uint8)) for x1, y1, x2, y2 in boxes]
    classes = np.arange(len(boxes))
    boxes = np.float32(boxes).reshape(-1, 4)
    return box_targets(masks, boxes, classes, picture=size, size=size, config=config().target)


def learn(*pictures: BoxTargets, overrides: tuple[str, ...] = ()) -> tuple[dict[str, float], CenterMask2]:
    net = network(*overrides)
    net.train()
    tensors = [descriptor("centermask2").target_tensors(picture) for picture in pictures]
    losses = net.losses(paddle.to_tensor(images(len(pictures))), tensors)
    means = {name: loss.mean() for name, loss in losses.items()}
    sum(means.values()).backward()
    return {name: float(loss) for name, loss in means.items()}, net


CASES = {
    "one": [targets((10, 10, 50, 50))],
    "some and none": [targets((10, 10, 50, 50), (60, 5, 90, 60)), targets()],
    "none and some": [targets(), targets((10, 10, 50, 50))],
    "none at all": [targets(), targets()],
    "one pixel": [targets((20, 20, 21, 21))],
    "a line": [targets((0, 7, 96, 8))],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("overrides", [(), ("backbone.norm=batch", "backbone.train_norm=true", "roi.masks_per_img=2")])
def test_losses_and_gradients_are_finite(case, overrides):
    losses, net = learn(*CASES[case], overrides=overrides)
    assert list(losses) == ["category", "box", "centerness", "mask", "mask_iou"]
    assert all(np.isfinite(loss) for loss in losses.values())
    for name, parameter in trainable_parameters(net).items():
        assert parameter.grad is not None and np.isfinite(parameter.grad.numpy()).all(), name
    if not any(len(picture.boxes) for picture in CASES[case]):
        assert [losses[name] for name in ("box", "centerness", "mask", "mask_iou")] == [0] * 4
    else:
        assert losses["mask"] > 0


def test_boxes_of_zero_size_have_a_gradient():
    found = paddle.to_tensor(np.float32([[0, 0, 0, 0], [0, 1, 0, 2]]), stop_gradient=False)
    generalized_iou(found, paddle.to_tensor(np.float32([[1, 1, 1, 1], [2, 1, 3, 1]]))).sum().backward()
    assert np.isfinite(found.grad.numpy()).all()


def test_generalized_iou_by_hand():
    expected = paddle.to_tensor(np.float32([[1, 1, 1, 1]] * 3))
    found = paddle.to_tensor(np.float32([[1, 1, 1, 1], [1, 1, 0, 1], [2, 1, 1, 1]]))
    # (4 + 1) / (4 + 1); (2 + 1) / (4 + 1); (4 + 1) / (6 + 1); the smallest box around both is the larger one.
    np.testing.assert_allclose(generalized_iou(found, expected), [1, 3 / 5, 5 / 7], rtol=1e-6)
    corner = paddle.to_tensor(np.float32([[0, 2, 2, 0]]))  # shares 1 x 1 with the expected box
    np.testing.assert_allclose(generalized_iou(corner, expected[:1]), [2 / 8 - (9 - 7) / 9], rtol=1e-6)


def test_a_network_learns_two_pictures():
    pictures = [targets((8, 8, 40, 40), (50, 20, 90, 60)), targets((30, 10, 80, 50))]
    net = network("backbone.norm=batch", "backbone.train_norm=true")
    net.train()
    optimizer = paddle.optimizer.AdamW(0.003, parameters=list(trainable_parameters(net).values()))
    batch = paddle.to_tensor(images(2))
    truth = [descriptor("centermask2").target_tensors(picture) for picture in pictures]
    history = []
    for _ in range(60):
        losses = {name: loss.mean() for name, loss in net.losses(batch, truth).items()}
        history.append({name: float(loss) for name, loss in losses.items()})
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.clear_grad()
    for name, share in (("category", 0.5), ("box", 0.7), ("mask", 0.7)):
        assert history[-1][name] < share * history[0][name], name


def test_found_boxes_that_overlap_enough_learn_the_mask_of_their_instance():
    picture = descriptor("centermask2").target_tensors(targets((10, 10, 30, 30), (40, 10, 60, 30)))
    found = np.float32([[41, 10, 61, 30], [12, 10, 30, 30], [22, 10, 42, 30], [0, 0, 96, 64]])
    chosen = choose_boxes(found, picture, config().roi)
    assert chosen.owners.tolist() == [1, 0, 0, 1]
    np.testing.assert_array_equal(chosen.boxes, [found[0], found[1], *picture.boxes])
    few = choose_boxes(found, picture, config("roi.masks_per_img=3").roi)
    assert len(few.owners) == 3
    assert {tuple(box) for box in few.boxes.tolist()} < {tuple(box) for box in chosen.boxes.tolist()}
    assert not len(choose_boxes(found, descriptor("centermask2").target_tensors(targets()), config().roi).boxes)


def test_a_mask_in_boxes_by_hand():
    """The box is a square of 8 x 8 pixels at (16, 24), and the mask its left half."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, :4] = 1
    cut = partial(cut_mask, MaskWindow(24, 16, pixels), size=SIZE, side=4)
    left = np.array([[1, 1, 0, 0]] * 4, bool)
    for box, expected, share in (
        ((16, 24, 24, 32), left, 1.0),  # the square itself
        ((16, 24, 20, 32), np.ones((4, 4), bool), 1.0),  # its left half
        ((18, 24, 22, 28), left, 0.25),
        ((20, 24, 24, 32), np.zeros((4, 4), bool), 0.0),
        ((30, 2, 30, 2), np.zeros((4, 4), bool), 0.0),
        ((-8, -8, -2, -2), np.zeros((4, 4), bool), 0.0),
    ):
        mask, found = cut(box)
        np.testing.assert_array_equal(mask, expected)
        assert found == pytest.approx(share, abs=1e-6)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_cut_masks_are_those_of_roi_align(seed):
    rng = np.random.default_rng(seed)
    top, left, height, width = (int(rng.integers(*limits)) for limits in ((0, 20), (0, 30), (1, 44), (1, 60)))
    pixels = (rng.random((height, width)) < 0.6).astype(np.uint8)
    pixels[0, 0] = 1
    corner = rng.uniform(-20, 60, 2)
    box = np.float32([*corner, *(corner + rng.uniform(0.5, 70, 2))])
    full = MaskWindow(top, left, pixels).to_full(*SIZE)
    align = paddle.vision.ops.roi_align(
        paddle.to_tensor(full[None, None].astype(np.float32)),
        paddle.to_tensor(box[None]),
        paddle.to_tensor(np.int32([1])),
        output_size=7,
        sampling_ratio=-1,
        aligned=True,
    ).numpy()[0, 0]
    mask, share = cut_mask(MaskWindow(top, left, pixels), box.tolist(), SIZE, 7)
    decided = np.abs(align - 0.5) > 1e-4
    np.testing.assert_array_equal(mask[decided], (align >= 0.5)[decided])
    assert 0 <= share <= 1


def test_the_iou_of_a_mask_counts_what_lies_outside_of_its_box():
    masks = np.ones((3, 2, 2), bool)
    found = np.array([[[1, 1], [1, 1]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]], bool)
    np.testing.assert_allclose(mask_ious(found, masks, np.float32([1, 0.5, 1e-10])), [1, 2 / 8, 0])


def found_in(net: CenterMask2, batch: np.ndarray, settings: Config) -> list:
    return DynamicEngine(net, settings)(batch, [SIZE] * len(batch))


def test_a_batch_finds_what_its_pictures_find_alone():
    net = untrained_network(config(), 0)
    batch = images(3)
    batch[1] *= 0.1
    together = found_in(net, batch, config())
    for index, picture in enumerate(batch):
        (alone,) = found_in(net, picture[None], config())
        assert len(alone.box_scores) > 0
        for part, other in zip(together[index], alone):
            assert part.shape == other.shape
            np.testing.assert_allclose(part, other, atol=1e-4)


def test_a_picture_without_instances():
    net = untrained_network(config(), 0)
    for nothing in found_in(net, images(2), config("nms.score_thr=1")):
        assert nothing.boxes.shape == (0, 4)
        assert nothing.masks.shape == (0, 28, 28) and nothing.scores.shape == (0,)
