"""From soft masks of the network to masks at the size of the picture: only the part that a mask can reach."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from typing import Callable, NamedTuple

import cv2
import numpy as np

from model.arrays import Array
from model.bilinear import taps

Size = tuple[int, int]
Window = tuple[int, int, np.ndarray]  # top, left, bool [rows, columns]
_OF_THREAD = threading.local()
SMALL = 1 / 4  # share of the picture below which a window by matrices is faster than the whole picture by OpenCV


def masks_at_picture_size(
    soft_masks: Array,
    *,
    resized: Size,
    original: Size,
    threshold: float,
    parallel: Callable[..., Iterable] = map,
) -> Iterable[Window]:
    """Enlarge soft masks to the picture and cut them at a threshold.

    soft_masks: float32 [n, h, w] at a quarter of the padded input's size; resized: (height, width) of the picture
    within the padded input; original: of the picture itself. The same as two bilinear resizes with a cut between them,
    as in the original SOLO. parallel: `map`, or that of a pool of threads.
    Gives a window of each mask, whose columns lie in memory one after another, as COCO's run-length encoding counts
    them; outside of it the mask is 0.
    """
    if not isinstance(soft_masks, np.ndarray):
        from model.masks import enlarged_masks  # needs Paddle, which is there if its tensors are

        masks = enlarged_masks(soft_masks, resized=resized, original=original, threshold=threshold)
        return ((0, 0, np.asfortranarray(mask)) for mask in masks)
    rows = _axis(soft_masks.shape[1], resized[0], original[0])
    columns = _axis(soft_masks.shape[2], resized[1], original[1])

    def window_of(soft: np.ndarray) -> Window:
        inside = soft > threshold
        # A resized pixel exceeds the threshold only where one of the pixels that it is made of does.
        top, bottom, y0, y1 = rows.reach(inside.any(axis=1))
        left, right, x0, x1 = columns.reach(inside.any(axis=0))
        if (bottom - top) * (right - left) < SMALL * original[0] * original[1]:
            enlarged = columns.matrix[left:right, x0:x1] @ soft[y0:y1, x0:x1].T @ rows.matrix[top:bottom, y0:y1].T
        else:
            top, left, enlarged = 0, 0, _two_resizes(soft.T, resized, original)
        return top, left, (enlarged > threshold).T

    return parallel(window_of, soft_masks)


class _Axis(NamedTuple):
    """One axis of both resizes, to the padded size, cut, and to the picture's size, as one."""

    matrix: np.ndarray  # float32 [original, quarter]
    first: np.ndarray  # int64 [original], the first of the quarter's pixels of which each pixel is made
    last: np.ndarray  # the last one

    def reach(self, occupied: np.ndarray) -> tuple[int, int, int, int]:
        """Outputs that occupied inputs can reach, and the inputs that these outputs need: two half-open ranges."""
        if not occupied.any():
            return 0, 0, 0, 0
        top = np.searchsorted(self.last, occupied.argmax())
        bottom = np.searchsorted(self.first, len(occupied) - 1 - occupied[::-1].argmax(), side="right")
        return (top, bottom, self.first[top], self.last[bottom - 1] + 1) if top < bottom else (0, 0, 0, 0)


@lru_cache(maxsize=8)
def _axis(quarter: int, resized: int, original: int) -> _Axis:
    matrix = np.zeros((original, quarter), np.float32)
    for (pixels, shares), (quarters, parts) in product(taps(resized, original), taps(quarter, quarter * 4)):
        matrix[np.arange(original), quarters[pixels]] += shares * parts[pixels]
    used = matrix > 0
    return _Axis(matrix, used.argmax(axis=1), quarter - 1 - used[:, ::-1].argmax(axis=1))


def masks_in_boxes(
    masks: np.ndarray,
    boxes: np.ndarray,
    *,
    original: Size,
    threshold: float,
    parallel: Callable[..., Iterable] = map,
) -> Iterable[Window]:
    """Spread soft masks over their boxes and cut them at a threshold, sampled at the centres of the pixels.

    masks: float32 [n, h, w], probabilities; boxes: float32 [n, 4], x1, y1, x2, y2 with an area, within the picture;
    original: the picture's size. Outside of its cells a mask is 0. The windows are as in `masks_at_picture_size`.
    """

    def window_of(pair: tuple[np.ndarray, np.ndarray]) -> Window:
        soft, (x1, y1, x2, y2) = pair
        top, rows = _samples(y1, y2, soft.shape[0], original[0])
        left, columns = _samples(x1, x2, soft.shape[1], original[1])
        return top, left, (columns @ soft.T @ rows.T >= threshold).T

    return parallel(window_of, zip(masks, boxes.tolist()))


def _samples(low: float, high: float, cells: int, length: int) -> tuple[int, np.ndarray]:
    """One axis: the first of the pixels whose centre may lie between low and high, and their share of each cell.

    Returns a float32 matrix [pixels, cells].
    """
    first, last = max(math.floor(low), 0), min(math.ceil(high), length)
    places = (np.arange(first, last) + 0.5 - low) / (high - low) * cells - 0.5
    shares = np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0)
    return first, shares.astype(np.float32)


def _two_resizes(soft: np.ndarray, resized: Size, original: Size) -> np.ndarray:
    """[w, h] to [W, H]."""
    width, height = soft.shape
    padded = _buffer(4 * width, 4 * height)
    cv2.resize(np.ascontiguousarray(soft), padded.shape[::-1], dst=padded, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(padded[: resized[1], : resized[0]], original, interpolation=cv2.INTER_LINEAR)


def _buffer(*shape: int) -> np.ndarray:
    """float32 of that shape, the same memory in each call of a thread: new megabytes would take as long as to fill."""
    size = math.prod(shape)
    if len(getattr(_OF_THREAD, "values", ())) < size:
        _OF_THREAD.values = np.empty(size, np.float32)
    return _OF_THREAD.values[:size].reshape(shape)
