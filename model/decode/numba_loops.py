"""Loops over masks, compiled by Numba: small parts of many masks, for which calls of numpy cost more than the work.

They run without Python's global lock. Numba keeps what it compiled beside this file, or in the user's cache folder if
that cannot be written. Arrays that are written to are the last arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, Callable

import numba
import numpy as np

from model.decode.windows import TAPS

BLOCK = 64  # pixels of a mask, which are skipped if none is inside
# Products may be added without rounding in between, as BLAS does.
_EXACT = frozenset({"contract"})
# Long sums may also be added in another order, so that the compiler can add several numbers in one instruction.
_SUMS = _EXACT | {"reassoc", "nsz", "arcp"}


def _compile(function: Callable, fastmath: Collection[str] = _EXACT) -> Callable:
    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder for the cache can be written
        return numba.njit(function, **options)


@_compile
def window_logits(kernels, feats, tops, lefts, y, x, logits):  # type: ignore[no-untyped-def]
    """Compute the logits of masks in their windows, as `WindowMasks` describes them.

    kernels: float32 [m, D + 6]; feats: float32 [D, h, w]; tops, lefts: int64 [m], `tops` ascending; y: float32
    [m, height] and x: float32 [m, width] as in `Windows`. Writes logits, float32 [m, height, width].

    Each row of the features is copied once and used for all windows with a part in it: in the array itself the rows of
    the channels are often a multiple of 4,096 bytes apart, and then push each other out of the cache.
    """
    channels, columns = len(feats), feats.shape[2]
    count, height, width = logits.shape
    row = np.empty((channels, columns), np.float32)
    first = 0
    for place in range(tops[0], tops[-1] + height):
        while tops[first] + height <= place:
            first += 1
        if tops[first] <= place:
            for channel in range(channels):
                for column in range(columns):
                    row[channel, column] = feats[channel, place, column]
        for mask in range(first, count):
            if tops[mask] > place:
                break
            kernel, out = kernels[mask], logits[mask, place - tops[mask]]
            v = y[mask, place - tops[mask]]
            constant = kernel[channels] + v * (kernel[channels + 1] + v * kernel[channels + 3])
            linear, square = kernel[channels + 2] + v * kernel[channels + 5], kernel[channels + 4]
            for column in range(width):
                u = x[mask, column]
                out[column] = constant + u * (linear + u * square)
            left, right = lefts[mask], lefts[mask] + width
            fours = channels // 4 * 4
            for channel in range(0, fours, 4):  # four at a time: fewer loads and stores of the sum
                a, b, c, d = kernel[channel], kernel[channel + 1], kernel[channel + 2], kernel[channel + 3]
                of_a, of_b = row[channel, left:right], row[channel + 1, left:right]
                of_c, of_d = row[channel + 2, left:right], row[channel + 3, left:right]
                for column in range(width):
                    out[column] += a * of_a[column] + b * of_b[column] + c * of_c[column] + d * of_d[column]
            for channel in range(fours, channels):
                for column in range(width):
                    out[column] += kernel[channel] * row[channel, left + column]


@partial(_compile, fastmath=_SUMS)
def _logistic(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-x)) of a float32, within 1e-6.

    exp(-x) is the 32nd power of exp(-x / 32), for which the series to the fourth power is enough.
    """
    one, a, b, c = np.float32(1), np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
    r = min(max(x, np.float32(-20)), np.float32(20)) * np.float32(-1 / 32)
    power = one + r * (one + r * (a + r * (b + r * c)))
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    return one / (one + power)


@partial(_compile, fastmath=_SUMS)
def sum_inside(half_logits, limit, areas, sums):  # type: ignore[no-untyped-def]
    """Sum the probabilities of the pixels whose logit exceeds a limit, p = 1 / (1 + exp(-x)) of a logit x.

    half_logits: float32 [m, pixels], x / 2; limit: float32, of x / 2. Writes areas and sums, float32 [m], of the pixels
    inside and of their probabilities, within 1e-6.
    """
    count, pixels = half_logits.shape
    for mask in range(count):
        area, total = np.float32(0), np.float32(0)
        for start in range(0, pixels, BLOCK):
            block = half_logits[mask, start : min(start + BLOCK, pixels)]
            present = np.float32(0)
            for place in range(len(block)):
                present += np.float32(1) if block[place] > limit else np.float32(0)
            if present == 0:
                continue
            area += present
            for place in range(len(block)):
                probability = _logistic(np.float32(2) * max(block[place], limit))
                total += probability if block[place] > limit else np.float32(0)
        areas[mask], sums[mask] = area, total


@_compile
def sum_windows(parts, tops, lefts, threshold, bits, areas, sums):  # type: ignore[no-untyped-def]
    """Find the pixels of windows whose probability exceeds a threshold.

    parts: float32 [m, height, width]; tops, lefts: int64 [m]. Writes bits, uint8 [m, h, ceil(w / 8)], zeros before, as
    in `WindowedMaps.packed`; areas and sums, float32 [m], of the pixels inside and of their probabilities.
    """
    for mask in range(len(parts)):
        part, left = parts[mask], lefts[mask]
        area, total = 0, 0.0
        for row in range(part.shape[0]):
            own = bits[mask, tops[mask] + row]
            for column in range(part.shape[1]):
                if part[row, column] > threshold:
                    place = left + column
                    own[place >> 3] |= 128 >> (place & 7)
                    area += 1
                    total += part[row, column]
        areas[mask], sums[mask] = area, total


@_compile
def share_pixels(words, starts, stops, first, step, shared):  # type: ignore[no-untyped-def]
    """Count the pixels that every `step`-th mask from `first` on shares with each later one.

    words: uint64 [n, k], 64 pixels each; starts, stops: int64 [n], the range of words with pixels of a mask. Writes
    shared, float32 [n, n], on both sides of the diagonal.
    """
    count = len(words)
    for one in range(first, count, step):
        for other in range(one + 1, count):
            total = np.uint64(0)
            for word in range(max(starts[one], starts[other]), min(stops[one], stops[other])):
                # The compiler knows this sum over pairs, fours and bytes as one instruction.
                bits = words[one, word] & words[other, word]
                bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
                bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
                bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                total += (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
            shared[one, other] = shared[other, one] = total


@_compile
def bound_windows(parts, threshold, bounds):  # type: ignore[no-untyped-def]
    """Find the rows and columns of windows with a value above a threshold.

    parts: float32 [m, height, width]. Writes bounds, int64 [m, 4]: first and last row, first and last column; if there
    is none, the lasts are -1.
    """
    count, height, width = parts.shape
    for mask in range(count):
        top, bottom, left, right = height, -1, width, -1
        for row in range(height):
            above = 0
            for column in range(width):
                above += parts[mask, row, column] > threshold
            if above:
                top, bottom = min(top, row), row
                for column in range(left):
                    if parts[mask, row, column] > threshold:
                        left = column
                        break
                for column in range(width - 1, right, -1):
                    if parts[mask, row, column] > threshold:
                        right = column
                        break
        bounds[mask, 0], bounds[mask, 1], bounds[mask, 2], bounds[mask, 3] = top, bottom, left, right


@_compile
def enlarge_windows(  # type: ignore[no-untyped-def]
    parts, tops, lefts, row_firsts, row_weights, column_firsts, column_weights, rows, columns, threshold, inside, boxes
):
    """Enlarge windows of masks to rectangles of the picture, and cut them at a threshold.

    parts: float32 [m, height, width]; tops, lefts: int64 [m], of the windows. row_firsts: int64 [H] and row_weights:
    float32 [H, TAPS], the pixels of a mask that each row of the picture is made of; those of columns likewise. rows,
    columns: int64 [m, 2], first and end of each rectangle, which a window may reach. Writes inside, bool [pixels of all
    rectangles], column by column; boxes, int64 [m, 4]: first and end row, first and end column inside, from the
    rectangle's corner, zeros if none is.
    """
    count, height, width = parts.shape
    border = TAPS - 1  # of zeros: a rectangle's first pixel may be made of pixels before the window
    column_of = np.zeros(height + 2 * border, np.float32)
    start = 0
    for mask in range(count):
        top, bottom = rows[mask]
        left, right = columns[mask]
        tall = np.zeros(
            (width + 2 * border, bottom - top), np.float32
        )  # columns of the window, of the picture's height
        for column in range(width):
            for row in range(height):
                column_of[border + row] = parts[mask, row, column]
            for row in range(top, bottom):
                place = row_firsts[row] - tops[mask] + border
                tall[border + column, row - top] = (
                    row_weights[row, 0] * column_of[place]
                    + row_weights[row, 1] * column_of[place + 1]
                    + row_weights[row, 2] * column_of[place + 2]
                )
        used = np.zeros(bottom - top, np.bool_)  # rows with a pixel inside
        first, end = right - left, 0  # columns
        for column in range(left, right):
            place = column_firsts[column] - lefts[mask] + border
            a, b, c = column_weights[column, 0], column_weights[column, 1], column_weights[column, 2]
            of_a, of_b, of_c = tall[place], tall[place + 1], tall[place + 2]
            out = inside[start : start + bottom - top]
            start += bottom - top
            any_inside = False
            for row in range(bottom - top):
                is_inside = a * of_a[row] + b * of_b[row] + c * of_c[row] > threshold
                out[row] = is_inside
                used[row] |= is_inside
                any_inside |= is_inside
            if any_inside:
                first, end = min(first, column - left), column - left + 1
        boxes[mask] = 0
        if end:
            present = np.flatnonzero(used)
            boxes[mask, 0], boxes[mask, 1], boxes[mask, 2], boxes[mask, 3] = present[0], present[-1] + 1, first, end


def warm_up() -> None:
    """Call all loops with arrays of the types that they are used with, so that Numba compiles or loads them."""
    masks, places = np.ones((1, 3, 3), np.float32), np.zeros(1, np.int64)
    span, weights = np.array([[0, 3]]), np.ones((3, TAPS), np.float32)
    window_logits(
        np.ones((1, 10), np.float32), np.ones((4, 3, 3), np.float32), places, places, masks[0], masks[0], masks
    )
    sum_inside(masks[0], np.float32(0), *np.empty((2, 3), np.float32))
    sum_windows(masks, places, places, 0.5, np.zeros((1, 3, 1), np.uint8), *np.empty((2, 1), np.float32))
    share_pixels(np.ones((2, 1), np.uint64), np.zeros(2, np.int64), np.ones(2, np.int64), 0, 1, masks[0])
    bounds, boxes = np.empty((2, 1, 4), np.int64)
    bound_windows(masks, 0.5, bounds)
    axis = np.zeros(3, np.int64), weights
    enlarge_windows(masks, places, places, *axis, *axis, span, span, 0.5, np.empty(9, bool), boxes)
