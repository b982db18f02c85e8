"""Plot the statistics of a data set: instances per class, and their scales with the ranges of the levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from config.base import level_ranges
from tools.common.plots import BLUE, GRID, LINE_COLORS, MARGIN, PALE_INK, WHITE, Canvas, bars, text_height, text_width

MAX_CLASSES = 100  # of the bar chart
BINS_PER_OCTAVE = 4
WIDTH, HISTOGRAM, BAND = 640, 230, 22  # in points: width of the picture, height of the histogram and of a level's band
BAND_TINT = 0.35  # share of the level's colour in its band


def class_plot(names: Sequence[str], counts: np.ndarray, *, title: str) -> np.ndarray:
    """Draw a bar chart of the instances of each class, at most the MAX_CLASSES most frequent: uint8 [H, W, 3].

    names: C class names. counts: int64 [C].
    """
    shown = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    if len(shown) < len(names):
        title += f", {len(shown)} of {len(names)} classes"
    return bars([names[index] for index in shown], counts[shown].tolist(), title=title, x_label="instances")


def scale_plot(
    scales: np.ndarray,
    levels: Mapping[str, tuple[Sequence[str], tuple[float, ...]]],
    *,
    title: str,
) -> np.ndarray:
    """Draw a histogram of scales above the ranges of the levels, on one logarithmic axis: uint8 [H, W, 3].

    scales: float64 [n], in pixels; values below 1 count as 1.
    levels: heading -> (text on the band of each level, scale_ranges), for the present and the suggested ranges.
    """
    low, high = _octaves(scales)
    height = 2 * MARGIN + 60 + HISTOGRAM + sum(text_height(12) + 12 + BAND * len(texts) for texts, _ in levels.values())
    canvas = Canvas(height, WIDTH)
    top = canvas.headline(title) + 8
    left, right = MARGIN + 48, WIDTH - MARGIN - 12

    def place(scale: float) -> float:
        share = (math.log2(max(scale, 2**low)) - low) / (high - low)
        return left + min(share, 1) * (right - left)

    bottom = top + HISTOGRAM
    _draw_histogram(canvas, scales, (low, high), (left, top, right, bottom))
    top = bottom + 2 * text_height(12) + 12
    for heading, (texts, ranges) in levels.items():
        canvas.text(MARGIN, top, heading, color=PALE_INK)
        top += text_height(12) + 4
        for index, (text, (start, end)) in enumerate(zip(texts, level_ranges(ranges))):
            _draw_band(canvas, top, (place(start), place(end)), text, LINE_COLORS[index])
            top += BAND
        top += 8
    return canvas.pixels


def _octaves(scales: np.ndarray) -> tuple[int, int]:
    """Return the exponents of two powers of two that enclose all scales."""
    low, high = (float(end) for end in (scales.min(initial=math.inf), scales.max(initial=1)))
    low = math.floor(math.log2(max(1, min(low, high))))
    return low, max(low + 1, math.ceil(math.log2(max(1, high))))


def _draw_histogram(
    canvas: Canvas, scales: np.ndarray, octaves: tuple[int, int], area: tuple[float, float, float, float]
) -> None:
    """Draw the histogram of the scales in percent. area: left, top, right, bottom in points."""
    (low, high), (left, top, right, bottom) = octaves, area
    exponents = np.log2(np.clip(scales, 2**low, 2**high))
    counts, edges = np.histogram(exponents, (high - low) * BINS_PER_OCTAVE, (low, high))
    shares = 100 * counts / max(1, scales.size)
    step = next(step for step in (1, 2, 5, 10, 20) if step == 20 or shares.max() <= 5 * step)
    highest = step * max(1, math.ceil(shares.max() / step))
    for percent in range(0, highest + 1, step):
        y = bottom - percent / highest * (bottom - top)
        canvas.rectangle(left, y - 0.5, right, y + 0.5, GRID)
        canvas.text(left - 6, y, f"{percent} %", align=(1, 0.5), color=PALE_INK)
    xs = left + (edges - low) / (high - low) * (right - left)
    for share, x1, x2 in zip(shares, xs, xs[1:]):
        canvas.rectangle(x1 + 0.5, bottom - share / highest * (bottom - top), x2 - 0.5, bottom, BLUE)
    canvas.rectangle(left, bottom - 0.5, right, bottom + 0.5, PALE_INK)
    for exponent in range(low, high + 1):
        x = left + (exponent - low) / (high - low) * (right - left)
        canvas.text(x, bottom + 4, str(2**exponent), align=(0.5, 0), color=PALE_INK)
    label = "scale: square root of the box's area, in pixels of the network's input"
    canvas.text((left + right) / 2, bottom + 4 + text_height(12), label, align=(0.5, 0), color=PALE_INK)


def _draw_band(canvas: Canvas, top: float, ends: tuple[float, float], text: str, color: tuple[int, int, int]) -> None:
    start, end = ends
    tint = np.array(WHITE) * (1 - BAND_TINT) + np.array(color) * BAND_TINT
    canvas.rectangle(start, top + 2, end, top + BAND - 2, tuple(np.rint(tint).astype(int).tolist()))
    for x in ends:
        canvas.rectangle(x - 1, top + 2, x + 1, top + BAND - 2, color)
    needed = text_width(text) + 8
    if end - start >= needed:
        x, align = (start + end) / 2, 0.5
    elif canvas.width - MARGIN - end >= needed:
        x, align = end + 6, 0
    else:
        x, align = start - 6, 1
    canvas.text(x, top + BAND / 2, text, align=(align, 0.5))
