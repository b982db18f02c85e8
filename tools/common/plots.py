"""Draw line plots, heat maps and bar charts with OpenCV and Pillow.

All sizes are in points. A point has SCALE x SCALE pixels, so that a plot is sharp when a page shows it at its size in
points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.common.fonts import find_font, text_color

SCALE = 2
WHITE, INK, PALE_INK, GRID = (255, 255, 255), (32, 36, 44), (96, 102, 112), (228, 231, 236)
BLUE = (24, 95, 190)
# Dark enough for thin lines on white, and easy to tell apart.
LINE_COLORS = (
    (31, 98, 200),
    (222, 92, 12),
    (22, 140, 74),
    (196, 30, 92),
    (116, 64, 190),
    (0, 138, 160),
    (150, 104, 10),
    (90, 98, 112),
)
TITLE_SIZE, LABEL_SIZE = 16, 12
MARGIN = 12
MAX_NAME_WIDTH = 150
MAX_VALUE = 1e100  # in a line plot, so that differences and tick steps are finite
_SUBPIXEL_BITS = 4  # fractional bits of the coordinates for OpenCV


def line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (340, 520),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Draw curves into one pair of axes; return uint8 [H * SCALE, W * SCALE, 3] RGB.

    series: name of the curve -> its x and y values. A curve is interrupted at values that are not finite or beyond
        MAX_VALUE; a point without neighbours is drawn as a dot.
    size: (H, W).
    x_range, y_range: (low, high) of the axes; curves are cut off outside. By default all values are shown.
    """
    curves = {name: np.array([x, y], np.float64).T for name, (x, y) in series.items()}  # [n, 2] each
    curves = {name: np.where(np.abs(points) <= MAX_VALUE, points, np.nan) for name, points in curves.items()}
    shown = np.concatenate([np.zeros((0, 2)), *curves.values()])
    shown = shown[np.isfinite(shown).all(axis=1)]
    canvas = Canvas(*size)
    top = canvas.headline(title)
    top = _legend(canvas, top, list(curves)) + 10
    bottom = size[0] - MARGIN - text_height(LABEL_SIZE) * (2 if x_label else 1) - 8
    x_limits = x_range or _limits(shown[:, 0])
    y_limits, y_steps = y_range or _limits(shown[:, 1]), max(2, (bottom - top) // 36)
    y_axis = _Axis.with_steps(y_limits, max_steps=y_steps, extend=y_range is None)
    left = MARGIN + (text_height(LABEL_SIZE) + 6 if y_label else 0) + y_axis.label_width() + 6
    right = size[1] - MARGIN - 12
    x_axis = _x_axis(x_limits, right - left)
    area = _PlotArea(left, top, right, bottom)
    _draw_axes(canvas, area, x_axis, y_axis)
    middle = (top + bottom) / 2
    canvas.text((left + right) / 2, size[0] - MARGIN, x_label, align=(0.5, 1), color=PALE_INK)
    canvas.text(MARGIN, middle, y_label, align=(0, 0.5), color=PALE_INK, vertical=True)
    for index, points in enumerate(curves.values()):
        positions = np.stack([x_axis.position(points[:, 0]), y_axis.position(points[:, 1])], 1)
        _draw_curve(canvas, area, positions, _color(index))
    return canvas.pixels


def heat_map(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    shades: np.ndarray | None = None,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
) -> np.ndarray:
    """Draw a matrix as a table of coloured cells with numbers; return uint8 [H, W, 3] RGB.

    matrix: [R, C], numbers >= 0; a cell of 0 has no text.
    rows, columns: their names; long ones are shortened.
    shades: [R, C], 0 (white) to 1 (deep blue); by default in proportion to the numbers.
    """
    shades = matrix / max(1, matrix.max(initial=0)) if shades is None else shades
    texts = [[_short_number(value) if value else "" for value in line] for line in matrix.tolist()]
    text_size, min_cell = (10, 36) if len(columns) <= 12 else (8, text_height(LABEL_SIZE) + 2)
    cell = max(min_cell, _max_width({text for line in texts for text in line}, text_size) + 4)
    rows, columns = ([shorten(name, MAX_NAME_WIDTH) for name in names] for names in (rows, columns))
    left = MARGIN + (text_height(LABEL_SIZE) + 8 if y_label else 0) + _max_width(rows) + 6
    width = left + cell * len(columns) + MARGIN
    heading = (text_height(TITLE_SIZE) + 8 if title else 0) + (text_height(LABEL_SIZE) + 8 if x_label else 0)
    top = MARGIN + heading + _max_width(columns) + 6
    canvas = Canvas(top + cell * len(rows) + MARGIN, max(width, round(text_width(title, TITLE_SIZE)) + 2 * MARGIN))
    below_title = canvas.headline(title)
    canvas.text(left + cell * len(columns) / 2, below_title, x_label, align=(0.5, 0), color=PALE_INK)
    canvas.text(MARGIN, top + cell * len(rows) / 2, y_label, align=(0, 0.5), color=PALE_INK, vertical=True)
    for j, name in enumerate(columns):
        canvas.text(left + cell * (j + 0.5), top - 6, name, align=(0.5, 1), vertical=True)
    for i, name in enumerate(rows):
        canvas.text(left - 6, top + cell * (i + 0.5), name, align=(1, 0.5))
    colors = np.rint(WHITE + (np.array(BLUE) - WHITE) * shades[..., None] ** 0.5)  # root: shows small shares
    canvas.cells(left, top, cell, colors.astype(np.uint8))
    for i, j in np.argwhere(matrix).tolist():
        x, y = left + cell * (j + 0.5), top + cell * (i + 0.5)
        canvas.text(x, y, texts[i][j], text_size, align=(0.5, 0.5), color=text_color(tuple(colors[i, j])))
    return canvas.pixels


def bars(
    names: Sequence[str], values: Sequence[float], *, title: str = "", x_label: str = "", width: int = 520
) -> np.ndarray:
    """Draw horizontal bars for values >= 0; return uint8 [H, width * SCALE, 3] RGB."""
    return stacked_bars(names, {"": values}, title=title, x_label=x_label, width=width)


def stacked_bars(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    width: int = 520,
    name_width: int = MAX_NAME_WIDTH,
) -> np.ndarray:
    """Draw horizontal bars of several parts one after another; return uint8 [H, width * SCALE, 3] RGB.

    parts: the name of each part, for the legend, and its value >= 0 in every bar. name_width: of a bar's name at most.
    """
    line = text_height(LABEL_SIZE) + 6
    names = [shorten(name, name_width) for name in names]
    totals = [sum(values) for values in zip(*parts.values())]
    texts = [_short_number(total) for total in totals]
    left, right = MARGIN + _max_width(names) + 8, width - MARGIN - _max_width(texts) - 6
    top = _legend(Canvas(1, width), MARGIN + (text_height(TITLE_SIZE) + 8 if title else 0), list(parts))
    canvas = Canvas(top + line * len(names) + (text_height(LABEL_SIZE) + 6 if x_label else 0) + MARGIN, width)
    _legend(canvas, canvas.headline(title), list(parts))
    scale = (right - left) / (max(totals, default=0) or 1)
    colors = [BLUE] if len(parts) == 1 else [_color(index) for index in range(len(parts))]
    for i, (name, total, text) in enumerate(zip(names, totals, texts)):
        y, end = top + line * i, float(left)
        canvas.text(left - 8, y + line / 2, name, align=(1, 0.5))
        for values, color in zip(parts.values(), colors):
            canvas.rectangle(end, y + 2, end + scale * values[i], y + line - 2, color)
            end += scale * values[i]
        canvas.text(left + scale * total + 6, y + line / 2, text, align=(0, 0.5), color=PALE_INK)
    canvas.rectangle(left - 1, top, left, top + line * len(names), PALE_INK)
    canvas.text((left + right) / 2, canvas.height - MARGIN, x_label, align=(0.5, 1), color=PALE_INK)
    return canvas.pixels


class Canvas:
    """A white picture of height x width points to draw on; pixels: uint8 [height * SCALE, width * SCALE, 3] RGB."""

    def __init__(self, height: float, width: float) -> None:
        self.height, self.width = math.ceil(height), math.ceil(width)
        self.pixels = np.full((self.height * SCALE, self.width * SCALE, 3), 255, np.uint8)

    def rectangle(self, x1: float, y1: float, x2: float, y2: float, color: tuple[int, int, int]) -> None:
        x1, y1, x2, y2 = (max(0, round(side * SCALE)) for side in (x1, y1, x2, y2))
        self.pixels[y1:y2, x1:x2] = color

    def cells(self, x: float, y: float, side: int, colors: np.ndarray) -> None:
        """Draw squares of these colours, uint8 [R, C, 3], with thin lines between them; (x, y): upper left corner."""
        squares = colors.repeat(side * SCALE, axis=0).repeat(side * SCALE, axis=1)
        squares[side * SCALE - 1 :: side * SCALE] = squares[:, side * SCALE - 1 :: side * SCALE] = GRID
        self.paste(x, y, squares)

    def paste(self, x: float, y: float, picture: np.ndarray) -> None:
        """Copy a picture, uint8 [h, w, 3] in pixels; (x, y): upper left corner."""
        left, top = round(x * SCALE), round(y * SCALE)
        self.pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture

    def headline(self, text: str) -> int:
        """Write the title, if there is one; return the y coordinate below it."""
        self.text(MARGIN, MARGIN, shorten(text, self.width - 2 * MARGIN, TITLE_SIZE), TITLE_SIZE)
        return MARGIN + (text_height(TITLE_SIZE) + 8 if text else 0)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = LABEL_SIZE,
        *,
        align: tuple[float, float] = (0, 0),
        color: tuple[int, int, int] = INK,
        vertical: bool = False,
    ) -> None:
        """Write one line of text at (x, y); text outside the picture is cut off.

        align: the point of the text that is put at (x, y), from (0, 0), upper left, to (1, 1), lower right.
        vertical: write from bottom to top.
        """
        if not text.strip():
            return
        font, text = _font(text, size)
        ascent, descent = font.getmetrics()
        page = Image.new("L", (math.ceil(font.getlength(text)), ascent + descent))
        ImageDraw.Draw(page).text((0, ascent), text, 255, font, anchor="ls")
        ink = np.rot90(np.asarray(page)) if vertical else np.asarray(page)
        left, top = round(x * SCALE - align[0] * ink.shape[1]), round(y * SCALE - align[1] * ink.shape[0])
        ink = ink[max(0, -top) :, max(0, -left) :]
        region = self.pixels[max(0, top) :, max(0, left) :][: ink.shape[0], : ink.shape[1]]
        share = ink[: region.shape[0], : region.shape[1], None] / 255
        region[:] = np.rint(region * (1 - share) + np.array(color) * share)


def text_width(text: str, size: float = LABEL_SIZE) -> float:
    if not text.strip():
        return 0
    font, text = _font(text, size)
    return font.getlength(text) / SCALE


def text_height(size: float) -> int:
    return math.ceil(sum(_font("A", size)[0].getmetrics()) / SCALE)


def shorten(text: str, width: float, size: float = LABEL_SIZE) -> str:
    """Return the text, or as much of its beginning as fits into the width together with three dots."""
    beginning = text[: int(width)]  # hardly a letter is narrower than a pixel, and long texts take long to measure
    if beginning == text and text_width(text, size) <= width:
        return text
    fitting = next((n for n in range(len(beginning) - 1, 0, -1) if text_width(text[:n] + "...", size) <= width), 0)
    return text[:fitting].rstrip() + "..."


@lru_cache(maxsize=4096)
def _font(text: str, size: float) -> tuple[ImageFont.FreeTypeFont, str]:
    """Return a font for the text, and the text; if no font has all its letters, each one outside ASCII becomes "?"."""
    if find_font(text) is None:
        text = re.sub("[^ -~]", "?", text)
    return _sized(find_font(text), round(size * SCALE)), text


@lru_cache(maxsize=64)
def _sized(font: ImageFont.FreeTypeFont, pixels: int) -> ImageFont.FreeTypeFont:
    return font.font_variant(size=pixels)


@dataclass(frozen=True)
class _PlotArea:
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class _Axis:
    """The range of an axis, low < high, and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    @classmethod
    def with_steps(cls, limits: tuple[float, float], *, max_steps: int, extend: bool) -> _Axis:
        """Make an axis with at most `max_steps` steps of 1, 2 or 5 times a power of ten.

        extend: extend the range to whole steps.
        """
        low, high = limits
        power = 10.0 ** math.floor(math.log10((high - low) / max_steps))
        steps = (factor * power for factor in (1, 2, 5, 10, 20))
        step = next(step for step in steps if (high - low) / step <= max_steps + 1e-9)
        if extend:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        ticks = tuple(number * step for number in numbers)
        return cls(low, high, ticks, tuple(_tick_text(tick, step) for tick in ticks))

    def position(self, values: np.ndarray | float) -> np.ndarray | float:
        """Return the positions of values on the axis, 0 at its low end and 1 at its high end."""
        return (values - self.low) / (self.high - self.low)

    def label_width(self) -> int:
        """Return the width of the widest label."""
        return _max_width(self.labels)


def _x_axis(limits: tuple[float, float], width: float) -> _Axis:
    """Return the axis with the most ticks whose labels do not overlap."""
    for max_steps in range(max(1, int(width // 48)), 0, -1):
        axis = _Axis.with_steps(limits, max_steps=max_steps, extend=False)
        if len(axis.ticks) * (axis.label_width() + 14) <= width:
            break
    return axis


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest value, moved apart if they are almost equal; (0, 1) without values."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    magnitude = max(abs(low), abs(high))
    if high - low > max(1e-9 * magnitude, 1 / MAX_VALUE):
        return low, high
    margin = magnitude / 2 if magnitude > 1 / MAX_VALUE else 0.5
    return low - margin, high + margin


def _tick_text(value: float, step: float) -> str:
    value = round(value / step) * step + 0.0  # no "-0"
    if abs(value) >= 1e6 or step < 1e-4:
        digits = math.floor(math.log10(max(abs(value), step)) + 1e-9) - math.floor(math.log10(step) + 1e-9) + 1
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _draw_axes(canvas: Canvas, area: _PlotArea, x_axis: _Axis, y_axis: _Axis) -> None:
    for tick, label in zip(x_axis.ticks, x_axis.labels):
        x = area.left + x_axis.position(tick) * (area.right - area.left)
        canvas.rectangle(x - 0.5, area.top, x + 0.5, area.bottom + 4, GRID)
        canvas.text(x, area.bottom + 6, label, align=(0.5, 0), color=PALE_INK)
    for tick, label in zip(y_axis.ticks, y_axis.labels):
        y = area.bottom - y_axis.position(tick) * (area.bottom - area.top)
        canvas.rectangle(area.left, y - 0.5, area.right, y + 0.5, GRID)
        canvas.text(area.left - 6, y, label, align=(1, 0.5), color=PALE_INK)
    canvas.rectangle(area.left - 0.5, area.top, area.left + 0.5, area.bottom, PALE_INK)
    canvas.rectangle(area.left, area.bottom - 0.5, area.right, area.bottom + 0.5, PALE_INK)


def _draw_curve(canvas: Canvas, area: _PlotArea, positions: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw a curve; positions: float64 [n, 2], 0 to 1 along x and y, not finite where the curve is interrupted."""
    margin = 2  # points around the area, for the width of a line at its border
    x1, y1, x2, y2 = (round(side * SCALE) for side in (area.left, area.top, area.right, area.bottom))
    inside = canvas.pixels[y1 - margin * SCALE : y2 + margin * SCALE, x1 - margin * SCALE : x2 + margin * SCALE]
    pixels = positions * (1, -1) * (x2 - x1, y2 - y1) + (0, y2 - y1) + margin * SCALE
    pixels = pixels.clip(-10000, 20000)  # far outside the plot, but within the range of OpenCV's integers
    finite = np.isfinite(positions).all(axis=1)
    breaks = np.flatnonzero(np.diff(finite)) + 1
    for run in np.split(np.arange(len(positions)), breaks):
        if not run.size or not finite[run[0]]:
            continue
        points = np.rint(pixels[run] * 2**_SUBPIXEL_BITS).astype(np.int32)
        if len(points) == 1:
            cv2.circle(inside, points[0].tolist(), 3 * SCALE << _SUBPIXEL_BITS, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            cv2.polylines(inside, [points[:, None]], False, color, SCALE, cv2.LINE_AA, _SUBPIXEL_BITS)


def _legend(canvas: Canvas, top: int, names: Sequence[str]) -> int:
    """Write the names of the curves above the axes; return the y coordinate below them."""
    names = [shorten(name, canvas.width - 2 * MARGIN - 30) for name in names]
    if not any(names):
        return top
    x: float = MARGIN
    line = text_height(LABEL_SIZE) + 4
    for index, name in enumerate(names):
        width = 24 + text_width(name) + 16
        if x > MARGIN and x + width - 16 > canvas.width - MARGIN:
            x, top = MARGIN, top + line
        canvas.rectangle(x, top + line / 2 - 1, x + 18, top + line / 2 + 1, _color(index))
        canvas.text(x + 24, top + line / 2, name, align=(0, 0.5))
        x += width
    return top + line


def _color(index: int) -> tuple[int, int, int]:
    return LINE_COLORS[index % len(LINE_COLORS)]


def _short_number(value: float) -> str:
    """Format a number with about four characters: 7, 0.25, 812, 12k."""
    if value >= 1e6:
        return f"{value / 1e6:.0f}M"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _max_width(texts: Collection[str], size: float = LABEL_SIZE) -> int:
    return math.ceil(max((text_width(text, size) for text in texts), default=0))
