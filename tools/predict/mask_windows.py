"""Masks from the network's resolution to the picture's size, on a CPU: only the part that a mask can reach."""

from __future__ import annotations

import math
import threading
from functools import lru_cache, partial
from itertools import product
from types import ModuleType
from typing import Callable, NamedTuple

import cv2
import numpy as np

from config.errors import InputError
from model.bilinear import interpolation_taps
from model.decode.loops import numba_loops
from model.decode.threads import parallel_map
from model.decode.windows import TAPS, WindowedMaps
from tools.predict.packed_masks import PackedMask, pack_if_large

Size = tuple[int, int]  # height, width
GROUP = 8  # masks that a thread enlarges at a time
WINDOWS_AT_ONCE = 64  # windows that compiled loops enlarge at a time
SMALL = 1 / 4  # share of the picture below which matrices are faster for a window than OpenCV for the full picture
_OF_THREAD = threading.local()


class MaskCrop(NamedTuple):
    """A mask as the part inside a window; outside it is 0."""

    top: int
    left: int
    mask: np.ndarray | PackedMask  # bool or uint8 [rows, columns]


EMPTY = MaskCrop(0, 0, np.zeros((0, 0), bool))


def tight_crop(window: MaskCrop) -> MaskCrop:
    """Cut a window down to the tight box of its mask, bool, packed if it is large; an empty mask gives an empty window
    at 0, 0.

    Raises InputError for masks of another dtype than bool or uint8.
    """
    top, left, mask = window
    assert isinstance(mask, np.ndarray)  # it is packed here only
    if mask.dtype not in (np.bool_, np.uint8):
        raise InputError(f"masks of dtype {mask.dtype}: bool or uint8 is needed")
    inside = mask.astype(bool, copy=False)
    # cv2.boundingRect of OpenCV 4.8 misses pixels of narrow masks that do not start at a multiple of 4 bytes.
    rows = np.flatnonzero(inside.any(axis=1))
    if not rows.size:
        return EMPTY
    y1, y2 = rows[0], rows[-1] + 1
    columns = np.flatnonzero(inside[y1:y2].any(axis=0))
    x1, x2 = columns[0], columns[-1] + 1
    return MaskCrop(top + y1, left + x1, pack_if_large(inside[y1:y2, x1:x2]))


def masks_at_picture_size(
    masks: np.ndarray | WindowedMaps, *, stride: int, resized: Size, original: Size, threshold: float
) -> list[MaskCrop]:
    """Enlarge masks to the picture's size and cut them at a threshold: a tight window of each, in Fortran order.

    masks: float32 [n, h, w], probabilities, or windows of such masks; stride: pixels of the padded input per pixel of
    these; resized: height and width of the picture within the padded input; original: of the picture itself. The same
    as `model.decode.plain.enlarge_masks`: two bilinear resizes, as in the original SOLO. COCO's run-length encoding
    counts along columns, hence the order.
    """
    windowed = WindowedMaps.of_whole(masks) if isinstance(masks, np.ndarray) else masks
    rows = _axis(windowed.size[0], stride, resized[0], original[0])
    columns = _axis(windowed.size[1], stride, resized[1], original[1])

    def crops_of(first: int) -> list[MaskCrop]:
        group = windowed[first : first + GROUP]
        inside = group.parts > threshold
        # A resized pixel exceeds the threshold only if one of the pixels that it is made of does.
        reached = zip(rows.reached(inside.any(axis=2), group.tops), columns.reached(inside.any(axis=1), group.lefts))
        return [crop_of(part, *both) for part, both in zip(group.parts, reached)]

    def crop_of(part: np.ndarray, of_rows: _Reached, of_columns: _Reached) -> MaskCrop:
        by_row = rows.matrix[of_rows.outputs, of_rows.inputs]
        by_column = columns.matrix[of_columns.outputs, of_columns.inputs]
        top, left = of_rows.outputs.start, of_columns.outputs.start
        if part.shape != windowed.size or len(by_row) * len(by_column) < SMALL * original[0] * original[1]:
            enlarged = by_column @ part[of_rows.window, of_columns.window].T @ by_row.T
        else:
            top, left, enlarged = 0, 0, _resize_twice(part.T, stride, resized, original)
        return tight_crop(MaskCrop(top, left, (enlarged > threshold).T))

    # Threads are slower for small windows: each call of numpy waits for Python's global lock.
    map_groups, size = (parallel_map, GROUP) if isinstance(masks, np.ndarray) else (map, WINDOWS_AT_ONCE)
    if loops := numba_loops(len(windowed.parts)):
        enlarge: Callable = partial(_enlarge_compiled, loops, rows=rows, columns=columns, threshold=threshold)
        groups = [windowed[first : first + size] for first in range(0, len(windowed.parts), size)]
        return [crop for group in map_groups(enlarge, groups) for crop in group]
    return [crop for group in map_groups(crops_of, range(0, len(windowed.parts), GROUP)) for crop in group]


def _enlarge_compiled(
    loops: ModuleType, masks: WindowedMaps, *, rows: _Axis, columns: _Axis, threshold: float
) -> list[MaskCrop]:
    """Return the result of `masks_at_picture_size` by compiled loops."""
    bounds, boxes = np.empty((2, len(masks.parts), 4), np.int64)
    loops.bound_windows(masks.parts, threshold, bounds)
    axes = (rows, masks.tops, bounds[:, :2]), (columns, masks.lefts, bounds[:, 2:])
    spans = [axis.outputs(starts[:, None] + bound, bound[:, 1] >= 0) for axis, starts, bound in axes]
    heights, widths = (span[:, 1] - span[:, 0] for span in spans)
    ends = np.cumsum(heights * widths)
    inside = np.empty(ends[-1], bool)
    places = masks.parts, masks.tops, masks.lefts, rows.first, rows.weights, columns.first, columns.weights
    loops.enlarge_windows(*places, *spans, threshold, inside, boxes)
    corners = spans[0][:, 0] + boxes[:, 0], spans[1][:, 0] + boxes[:, 2]
    numbers = (part.tolist() for part in (*corners, boxes, ends - heights * widths, ends, widths))
    crops = []
    for y, x, (top, bottom, left, right), start, end, width in zip(*numbers):
        if bottom:
            mask = inside[start:end].reshape(width, -1)[left:right, top:bottom].T
            crops.append(MaskCrop(y, x, pack_if_large(mask)))
        else:
            crops.append(EMPTY)
    return crops


class _Reached(NamedTuple):
    """The pixels of the picture that a mask reaches in one direction, and those of the mask that they are made of."""

    outputs: slice
    inputs: slice
    window: slice  # the inputs, counted from the first pixel of the mask's window


class _Axis(NamedTuple):
    """Both resizes of one axis in one: to the padded size, cut, and to the picture's size."""

    matrix: np.ndarray  # float32 [original, small]
    first: np.ndarray  # int64 [original], the first pixel of the small mask that each pixel is made of
    last: np.ndarray  # int64 [original], the last one
    weights: np.ndarray  # float32 [original, TAPS], of the pixels from the first on

    def outputs(self, occupied: np.ndarray, is_any: np.ndarray) -> np.ndarray:
        """Return the first pixel of the picture that each mask reaches and the end, int64 [n, 2].

        occupied: int64 [n, 2], the first and the last pixel of the mask that is not 0; is_any: bool [n], whether there
        is one.
        """
        stops = np.where(is_any, np.searchsorted(self.first, occupied[:, 1], side="right"), 0)
        return np.stack([np.minimum(np.searchsorted(self.last, occupied[:, 0]), stops), stops], axis=1)

    def reached(self, occupied: np.ndarray, starts: np.ndarray) -> list[_Reached]:
        """Return what the occupied inputs of each window reach.

        occupied: bool [n, k], of the inputs from `starts`, int64 [n], on; others are 0.
        """
        count = occupied.shape[1]
        ends = np.stack([occupied.argmax(axis=1), count - 1 - occupied[:, ::-1].argmax(axis=1)], axis=1)
        tops, bottoms = self.outputs(starts[:, None] + ends, occupied.any(axis=1)).T
        lows = np.maximum(self.first[np.minimum(tops, len(self.first) - 1)], starts)
        highs = np.minimum(self.last[np.maximum(bottoms, 1) - 1] + 1, starts + count)
        places = zip(tops.tolist(), bottoms.tolist(), lows.tolist(), np.maximum(lows, highs).tolist(), starts.tolist())
        return [
            _Reached(slice(top, bottom), slice(low, high), slice(low - start, high - start))
            for top, bottom, low, high, start in places
        ]


@lru_cache(maxsize=8)
def _axis(small: int, stride: int, resized: int, original: int) -> _Axis:
    matrix = np.zeros((original, small), np.float32)
    for (pixels, shares), (sources, parts) in product(
        interpolation_taps(resized, original), interpolation_taps(small, small * stride)
    ):
        matrix[np.arange(original), sources[pixels]] += shares * parts[pixels]
    used = matrix > 0
    first = used.argmax(axis=1)
    wide = np.pad(matrix, ((0, 0), (0, TAPS - 1)))
    weights = np.take_along_axis(wide, first[:, None] + np.arange(TAPS), axis=1)
    return _Axis(matrix, first, small - 1 - used[:, ::-1].argmax(axis=1), weights)


def masks_in_boxes(masks: np.ndarray, boxes: np.ndarray, *, original: Size, threshold: float) -> list[MaskCrop]:
    """Spread masks over their boxes, sampled at the centres of the pixels, and cut them at a threshold.

    masks: float32 [n, h, w], probabilities; boxes: float32 [n, 4], x1, y1, x2, y2 with an area, within the picture;
    original: the picture's size. Outside of its cells a mask is 0. Returns windows as `masks_at_picture_size`.
    """

    def window_of(mask: np.ndarray, box: list[float]) -> MaskCrop:
        x1, y1, x2, y2 = box
        top, rows = _samples(y1, y2, mask.shape[0], original[0])
        left, columns = _samples(x1, x2, mask.shape[1], original[1])
        return tight_crop(MaskCrop(top, left, (columns @ mask.T @ rows.T >= threshold).T))

    return list(parallel_map(window_of, masks, boxes.tolist()))


def _samples(low: float, high: float, cells: int, length: int) -> tuple[int, np.ndarray]:
    """Return, for one axis, the first pixel whose centre may be between low and high, and the weights of the cells.

    The weights are float32 [pixels, cells].
    """
    first, last = max(math.floor(low), 0), min(math.ceil(high), length)
    places = (np.arange(first, last) + 0.5 - low) / (high - low) * cells - 0.5
    shares = np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0)
    return first, shares.astype(np.float32)


def _resize_twice(mask: np.ndarray, stride: int, resized: Size, original: Size) -> np.ndarray:
    """Resize [w, h] to [W, H]."""
    width, height = mask.shape
    padded = _buffer(stride * width, stride * height)
    cv2.resize(np.ascontiguousarray(mask), padded.shape[::-1], dst=padded, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(padded[: resized[1], : resized[0]], original, interpolation=cv2.INTER_LINEAR)


def _buffer(*shape: int) -> np.ndarray:
    """Return a float32 array in memory that each thread uses again: new memory takes as long as filling it."""
    size = math.prod(shape)
    if len(getattr(_OF_THREAD, "values", ())) < size:
        _OF_THREAD.values = np.empty(size, np.float32)
    return _OF_THREAD.values[:size].reshape(shape)
