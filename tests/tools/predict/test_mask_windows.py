"""Masks at the size of the picture equal the two resizes with a cut between them that they stand for."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F

from model.bilinear import bilinear_matrix
from model.decode.plain import enlarge_masks
from model.decode.windows import WindowedMaps
from tests.support.loops import both_loops  # noqa: F401
from tools.predict.mask_windows import MaskCrop, masks_at_picture_size, masks_in_boxes

ON_THRESHOLD = 1e-5


def interpolate(x: paddle.Tensor, size: tuple[int, int]) -> paddle.Tensor:
    """[n, h, w] to [n, *size]. Paddle gives a side of 1 its first pixel; the middle of 3 is what PyTorch gives it."""
    resized = F.interpolate(x.unsqueeze(0), [3 if side == 1 else side for side in size], mode="bilinear").squeeze(0)
    rows, columns = (slice(1, 2) if side == 1 else slice(None) for side in size)
    return resized[:, rows, columns]


def two_resizes(soft: np.ndarray, resized: tuple[int, int], original: tuple[int, int], stride: int) -> np.ndarray:
    """The probabilities of the original SOLO: `stride` times as large, cut to the picture, at the picture's size."""
    height, width = soft.shape[1:]
    padded = interpolate(paddle.to_tensor(soft), (stride * height, stride * width))
    return interpolate(padded[:, : resized[0], : resized[1]], original).numpy()


def enlarge(
    soft: np.ndarray, resized: tuple[int, int], original: tuple[int, int], threshold=0.5, stride=4
) -> np.ndarray:
    """`masks_at_picture_size` with its windows put into whole masks, bool [n, *original]."""
    soft, sizes = soft.astype(np.float32), {"resized": resized, "original": original}
    return placed(masks_at_picture_size(soft, stride=stride, threshold=threshold, **sizes), original)


def placed(windows: list[MaskCrop], original: tuple[int, int]) -> np.ndarray:
    """Return windows as whole masks, bool [n, *original]."""
    masks = np.zeros((len(windows), *original), bool)
    for mask, (top, left, window) in zip(masks, windows):
        assert window.dtype == bool and window.T.flags.c_contiguous
        mask[top : top + window.shape[0], left : left + window.shape[1]] = window
        assert mask.sum() == window.sum()  # the window lies within the picture
    return masks


@st.composite
def jobs(draw):
    """Soft masks (noise, some of it in a box only), the picture's size in the padded input, its own, and the stride."""
    stride = draw(st.sampled_from([4, 2]))
    height, width = draw(st.one_of(*(st.tuples(*sides) for sides in (SQUARE, STRIP, STRIP[::-1]))))
    resized = draw(st.tuples(st.integers(1, stride * height), st.integers(1, stride * width)))
    original = draw(st.one_of(*(st.tuples(*sides) for sides in (ANY, LONG, LONG[::-1], (ONE, ONE)))))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    soft = random.random((draw(st.integers(1, 3)), height, width)) ** draw(st.sampled_from([0.5, 1, 4]))
    for mask in soft[draw(st.integers(0, 3)) :]:
        (top, bottom), (left, right) = (sorted(random.integers(0, side + 1, 2)) for side in mask.shape)
        box = np.zeros_like(mask)
        box[top:bottom, left:right] = 1
        mask *= box
    return soft.astype(np.float32), resized, original, stride


SQUARE = (st.integers(1, 12), st.integers(1, 12))
STRIP = (st.integers(1, 3), st.integers(60, 100))
ANY = (st.integers(1, 60), st.integers(1, 60))
LONG = (st.integers(1, 3), st.integers(100, 300))
ONE = st.just(1)


@settings(max_examples=150)
@given(job=jobs(), threshold=st.sampled_from([0.5, 0.4]))
def test_equals_two_resizes(job, threshold):
    soft, resized, original, stride = job
    expected = two_resizes(soft, resized, original, stride)
    decided = np.abs(expected - threshold) > ON_THRESHOLD
    masks = enlarge(soft, resized, original, threshold, stride)
    assert (masks == (expected > threshold))[decided].all()
    if 1 not in original and 1 not in resized:  # Paddle resizes such a side differently
        sizes = {"resized": resized, "original": original}
        on_device = enlarge_masks(paddle.to_tensor(soft), stride=stride, threshold=threshold, **sizes)
        assert (np.stack(list(on_device)) == (expected > threshold))[decided].all()


@settings(max_examples=100)
@given(job=jobs(), threshold=st.sampled_from([0.5, 0.4]), seed=st.integers(0, 2**32 - 1))
def test_masks_in_windows_are_those_of_whole_maps(job, threshold, seed):
    soft, resized, original, stride = job
    random = np.random.default_rng(seed)
    height, width = (random.integers(1, side + 1) for side in soft.shape[1:])
    tops, lefts = (random.integers(0, free + 1, len(soft)) for free in np.array(soft.shape[1:]) - [height, width])
    parts = np.stack([mask[y : y + height, x : x + width] for mask, y, x in zip(soft, tops, lefts)])
    windowed = WindowedMaps(soft.shape[1:], tops, lefts, parts)
    whole = windowed.whole()
    decided = np.abs(two_resizes(whole, resized, original, stride) - threshold) > ON_THRESHOLD
    sizes = {"stride": stride, "resized": resized, "original": original, "threshold": threshold}
    masks = placed(masks_at_picture_size(windowed, **sizes), original)
    assert (masks == placed(masks_at_picture_size(whole, **sizes), original))[decided].all()


def test_the_window_is_small():
    soft = np.zeros((1, 16, 16), np.float32)
    soft[0, 4, 8] = 1
    [(top, left, window)] = masks_at_picture_size(soft, stride=4, resized=(64, 64), original=(64, 64), threshold=0.5)
    # The centre of cell (4, 8) lies at (18, 34); half a cell away, its share has fallen to a half.
    assert top + window.shape[0] / 2 == 18 and left + window.shape[1] / 2 == 34
    assert max(window.shape) <= 8


@pytest.mark.parametrize(("resized", "original"), [((32, 48), (32, 48)), ((20, 48), (200, 7)), ((1, 1), (9, 9))])
def test_a_mask_of_everything_stays_everything(resized, original):
    assert enlarge(np.ones((2, 8, 12)), resized, original).all()


def test_what_lies_in_the_padding_is_cut_off():
    soft = np.zeros((2, 8, 8), np.float32)
    soft[0, :, 6:] = 1
    soft[1] = 1
    padding, everything = enlarge(soft, resized=(32, 16), original=(32, 16))
    assert everything.all() and not padding.any()


def test_no_masks_and_empty_masks():
    assert enlarge(np.zeros((0, 8, 8)), (30, 32), (60, 64)).shape == (0, 60, 64)
    assert not enlarge(np.zeros((2, 8, 8)), (30, 32), (60, 64)).any()


def sampled(soft: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Probability of each pixel of a picture: the mask's cells bilinearly at its centre, and nothing around them."""
    x1, y1, x2, y2 = box.tolist()
    padded = np.pad(soft, 2)
    found = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = (y + 0.5 - y1) / (y2 - y1) * soft.shape[0] - 0.5
            u = (x + 0.5 - x1) / (x2 - x1) * soft.shape[1] - 0.5
            if -1 < v < soft.shape[0] and -1 < u < soft.shape[1]:
                row, column = int(np.floor(v)), int(np.floor(u))
                cells = padded[row + 2 : row + 4, column + 2 : column + 4]
                found[y, x] = [1 - (v - row), v - row] @ cells @ [1 - (u - column), u - column]
    return found


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_masks_in_boxes_are_sampled_at_the_centres_of_pixels(seed):
    random = np.random.default_rng(seed)
    size = tuple(random.integers(1, 30, 2).tolist())
    limits = np.float32([size[1], size[0]])
    corners = np.sort(random.uniform(0, 1, (2, 2)) * limits, axis=0)
    boxes = np.concatenate([np.float32([[0, 0, *limits]]), corners.reshape(1, 4).astype(np.float32)])
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    masks = random.random((len(boxes), 6, 5)).astype(np.float32)
    windows = list(masks_in_boxes(masks, boxes, original=size, threshold=0.5))
    assert len(windows) == len(boxes)
    for soft, box, (top, left, window) in zip(masks, boxes, windows):
        assert window.dtype == bool and (window.T.flags.c_contiguous or not window.size)
        whole = np.zeros(size, bool)
        whole[top : top + window.shape[0], left : left + window.shape[1]] = window
        expected = sampled(soft, box, size)
        decided = np.abs(expected - 0.5) > ON_THRESHOLD
        assert (whole == (expected >= 0.5))[decided].all()


@given(before=st.integers(1, 40), after=st.integers(1, 40))
def test_each_row_of_a_resize_is_a_weighted_mean_of_neighbours(before, after):
    matrix = bilinear_matrix(before, after)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix >= 0).all() and ((matrix > 0).sum(axis=1) <= 2).all()
    centre = matrix @ np.arange(before)
    assert (np.diff(centre) >= 0).all()
    np.testing.assert_allclose(centre + centre[::-1], before - 1, atol=1e-9)  # the same from both ends
