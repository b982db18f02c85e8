"""Check single entries of a COCO annotation file, and collect the problems found."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np
from pycocotools import mask as coco_mask

from config.errors import SHOWN, listed, printable

MAX_PIXELS = 2**30  # per picture, the limit of OpenCV
MIN_COORDINATES = 6  # per polygon
MAX_OUTLINE = 2**21  # pixels per annotation; outlines of objects are much shorter
_PLURALS = {"image": "images", "annotation": "annotations", "category": "categories", "file name": "file names"}
_RLE_DIGITS = 7  # of 5 bits each; enough for any run of a picture of MAX_PIXELS

# Polygons, each float64 [2 * points] as x, y, x, y ..., or an RLE: {"size": [height, width], "counts": bytes}.
Segmentation = Union[tuple[np.ndarray, ...], dict]
Box = tuple[float, float, float, float]
MIN_OVERLAP = 0.5  # minimum IoU at which an entry's bbox matches the extent of its mask


class UnusableError(Exception):
    """An entry cannot be used. The message is the reason, in words that follow "1 annotation"."""


class ProblemCount(NamedTuple):
    """The number of entries with one kind of problem, and the labels of the first few."""

    entries: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Problems:
    """The problems of one annotation file, by noun, one of `_PLURALS`, and description."""

    file: Path
    counts: dict[tuple[str, str], ProblemCount] = field(default_factory=dict)

    def add(self, noun: str, what: str, example: str) -> None:
        """Count one more entry with a problem; example: the entry's label."""
        count, examples = self.counts.get((noun, what), ProblemCount(0, ()))
        if count < SHOWN:
            examples += (example,)
        self.counts[noun, what] = ProblemCount(count + 1, examples)

    def count(self, noun: str) -> int:
        """Return the number of problems with entries of this kind."""
        return sum(problem.entries for (kind, _), problem in self.counts.items() if kind == noun)

    def lines(self, *nouns: str) -> list[str]:
        """Return a line per problem, such as "2 annotations of an unknown image, left out: a.json annotation 7, 9".

        nouns: the kinds of entries whose problems are wanted (default: all).
        """
        return [
            printable(
                f"{problem.entries} {noun if problem.entries == 1 else _PLURALS[noun]} {what}: {self.file} {noun} "
                + listed(problem.examples, count=problem.entries)
            )
            for (noun, what), problem in self.counts.items()
            if noun in nouns or not nouns
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def as_integer(value: object) -> int | None:
    """Return an integral number from JSON as int: 17 and 17.0, but None for true, "17" and 17.5."""
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def pack_polygons(entry: dict) -> dict:
    """Convert an entry's polygons to float64 arrays while the JSON is parsed, which takes a quarter of the memory.

    A polygon that is not a list of numbers stays as it is; `check_segmentation` reports it.
    """
    polygons = entry.get("segmentation")
    if type(polygons) is list:
        entry["segmentation"] = [_pack_polygon(polygon) for polygon in polygons]
    return entry


def _pack_polygon(polygon: Any) -> Any:
    try:
        return np.array(array("d", polygon))  # `array` refuses strings and None, which numpy would convert
    except (TypeError, OverflowError):
        return polygon


def check_segmentation(segmentation: object, *, height: int, width: int) -> tuple[Segmentation, Box]:
    """Check an entry's segmentation, after `pack_polygons`, against its picture's size.

    Polygons with fewer than 3 points or an odd number of coordinates are left out. A polygon may extend beyond the
    picture by the length of its longer side.
    Returns the segmentation, an uncompressed RLE as compressed RLE, and its extent x1, y1, x2, y2, which is not clipped
    to the picture. Raises UnusableError if nothing can be decoded.
    """
    if type(segmentation) is list and segmentation:
        return _check_polygons(segmentation, height=height, width=width)
    if type(segmentation) is dict:
        return _check_rle(segmentation, height=height, width=width)
    raise UnusableError("without a segmentation")


def _check_polygons(polygons: list, *, height: int, width: int) -> tuple[Segmentation, Box]:
    if not all(isinstance(polygon, np.ndarray) for polygon in polygons):
        raise UnusableError("with a polygon that is not a list of numbers")
    usable = tuple([polygon for polygon in polygons if polygon.size >= MIN_COORDINATES and not polygon.size % 2])
    if not usable:
        raise UnusableError("whose polygons have fewer than 3 points or an odd number of coordinates")
    # Both limits protect the memory: pycocotools stores a point for every 1/5 pixel of outline. NaN fails the first.
    lower, upper = -max(height, width), 2 * max(height, width)
    extents = [_extent(polygon) for polygon in usable]
    for x1, y1, x2, y2 in extents:
        if not (x1 >= lower and y1 >= lower and x2 <= upper and y2 <= upper):
            raise UnusableError("with coordinates that are NaN or far outside of the picture")
    # A fast upper bound, the number of edges times the extent; only longer outlines are measured.
    at_most = sum(polygon.size * max(x2 - x1, y2 - y1) for polygon, (x1, y1, x2, y2) in zip(usable, extents))
    if at_most > MAX_OUTLINE and outline_length(usable) > MAX_OUTLINE:
        raise UnusableError(f"whose outline is longer than {MAX_OUTLINE} pixels")
    # A figure of eight may have a computed area of 0 and still cover pixels, so small areas are decoded to be sure.
    if all(_area(polygon) < 1 for polygon in usable) and not coco_mask.area(to_rle(usable, height, width)):
        raise UnusableError("whose polygons cover no pixel")
    if len(extents) == 1:
        return usable, extents[0]
    lefts, tops, rights, bottoms = zip(*extents)
    return usable, (min(lefts), min(tops), max(rights), max(bottoms))


def _extent(polygon: np.ndarray) -> Box:
    """Return x1, y1, x2, y2 of a polygon; a NaN coordinate gives NaN."""
    points = polygon.reshape(-1, 2)
    return (*np.minimum.reduce(points).tolist(), *np.maximum.reduce(points).tolist())


def outline_length(polygons: Sequence[np.ndarray]) -> float:
    """Return the length of closed polygons, float64 [2 * points], in pixels; an edge has that of its longer side."""
    total = 0.0
    for polygon in polygons:
        points = polygon.reshape(-1, 2)
        total += np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    return total


def _area(polygon: np.ndarray) -> float:
    """Return the absolute area of a polygon in square pixels, by the shoelace formula."""
    x, y = polygon[0::2], polygon[1::2]
    return abs(x[:-1].dot(y[1:]) - x[1:].dot(y[:-1]) + x[-1] * y[0] - x[0] * y[-1]) / 2


def _check_rle(rle: dict, *, height: int, width: int) -> tuple[Segmentation, Box]:
    usable = check_rle(rle, height=height, width=width)
    x, y, w, h = coco_mask.toBbox(usable).tolist()
    if not coco_mask.area(usable):
        raise UnusableError("whose RLE covers no pixel")
    return usable, (x, y, x + w, y + h)


def check_rle(rle: dict, *, height: int, width: int) -> dict:
    """Return an RLE from a file, also one without a pixel, as compressed RLE. Raises UnusableError if it is damaged."""
    size, counts = [height, width], rle.get("counts")
    if rle.get("size") != size:
        raise UnusableError("with an RLE whose size is not the picture's")
    runs = parse_runs(counts) if isinstance(counts, str) else _parse_plain_runs(counts)
    if runs is None or np.any(runs < 0) or np.any(runs > height * width) or runs.sum() != height * width:
        raise UnusableError("with an RLE whose runs do not fill the picture")
    if isinstance(counts, str):
        return {"size": size, "counts": counts.encode("ascii")}
    return coco_mask.frPyObjects({"size": size, "counts": runs.astype(np.int64).tolist()}, height, width)


def _parse_plain_runs(counts: Any) -> np.ndarray | None:
    """Return the runs of an uncompressed RLE, float64 [n]; None if empty or not integers."""
    try:
        runs = np.array(array("d", counts or ()))
    except (TypeError, OverflowError):
        return None
    return runs if runs.size and (np.floor(runs) == runs).all() else None


def parse_runs(counts: str) -> np.ndarray | None:
    """Check and decode the runs of a compressed RLE from a file: int64 [n], None if the string is damaged."""
    if not counts or not counts.isascii():
        return None
    digits = _digits(counts.encode("ascii"))
    if digits.min() < 0 or digits.max() > 63 or digits[-1] >= 32:
        return None
    lengths = np.diff(np.flatnonzero(digits < 32), prepend=-1)
    return None if lengths.max() > _RLE_DIGITS else decode_runs(counts.encode("ascii"))


def decode_runs(counts: bytes) -> np.ndarray:
    """Decode the runs of a valid compressed RLE: int64 [n].

    The format of pycocotools: a run consists of 5-bit digits, lowest first, each stored as a character from "0" on.
    The sixth bit is set if another digit follows; the fifth bit of the last digit is the sign. From the fourth run on,
    the difference to the run two places earlier is stored.
    """
    digits = _digits(counts)
    last = (digits < 32).nonzero()[0]  # of each run
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last + 1 - first
    places = 5 * (np.arange(digits.size) - np.repeat(first, lengths))
    runs = np.add.reduceat((digits & 31) << places, first)
    runs -= (digits[last] & 16) << (5 * lengths - 4)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _digits(counts: bytes) -> np.ndarray:
    return np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict:
    """Return a usable segmentation as compressed RLE; the union of its polygons."""
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(list(segmentation), height, width))


def check_bbox(bbox: Any) -> Box | None:
    """Return an entry's bbox x, y, width, height, or None without one. Raises UnusableError if it is malformed."""
    if bbox is None or bbox == []:
        return None
    try:
        x, y, w, h = array("d", bbox)
    except (TypeError, ValueError, OverflowError):
        raise UnusableError("with a bbox that is not four numbers") from None
    return x, y, w, h


def clip_box(box: Box, *, height: int, width: int) -> Box | None:
    """Clip a box x1, y1, x2, y2 to the picture; None if nothing remains or a coordinate is not finite."""
    x1, y1, x2, y2 = box
    if not math.isfinite(x1 + y1 + x2 + y2):
        return None
    # Comparisons instead of `max` and `min`, whose calls dominate the time for a million annotations.
    x1, y1 = x1 if x1 > 0 else 0.0, y1 if y1 > 0 else 0.0
    x2, y2 = x2 if x2 < width else float(width), y2 if y2 < height else float(height)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def boxes_match(box: Box, extent: Box) -> bool:
    """Return whether a box x1, y1, x2, y2 and the extent of a mask overlap with an IoU of at least MIN_OVERLAP."""
    if box == extent:
        return True
    w = min(box[2], extent[2]) - max(box[0], extent[0])
    h = min(box[3], extent[3]) - max(box[1], extent[1])
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, extent)]
    return w > 0 and h > 0 and w * h >= MIN_OVERLAP * (sum(areas) - w * h)


def check_area(area: Any) -> float | None:
    """Return an entry's area in pixels; None if it is missing or not a finite number >= 0."""
    try:
        return float(area) if type(area) in (int, float) and 0 <= area < math.inf else None
    except OverflowError:
        return None
