"""What is usable in a COCO annotation file, and a list of what is not."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
from pycocotools import mask as coco_mask

from config.errors import SHOWN, listed

MAX_PIXELS = 2**30  # of a picture; OpenCV reads no larger ones
MIN_COORDINATES = 6  # of a polygon
_PLURALS = {"image": "images", "annotation": "annotations", "category": "categories"}
_RLE_DIGITS = 7  # of 5 bits; no run of a picture with MAX_PIXELS has more

# Polygons, float64 [2 * points] of x, y, x, y ... each, or an RLE: {"size": [height, width], "counts": bytes}.
Segmentation = Union[tuple[np.ndarray, ...], dict]
Box = tuple[float, float, float, float]
MIN_OVERLAP = 0.5  # IoU of an entry's box with the extent of its mask, from which they are taken to be the same


class UnusableError(Exception):
    """Why an entry is left out, in words that follow "1 annotation"."""


class Found(NamedTuple):
    """One kind of problem: how many entries have it and how the first few are called."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Problems:
    """What is wrong with the entries of one annotation file, by the kind of entry and the words that follow it."""

    file: Path
    found: dict[tuple[str, str], Found] = field(default_factory=dict)

    def add(self, noun: str, what: str, example: str) -> None:
        """Count one more "image", "annotation" or "category" that is `what`."""
        count, examples = self.found.get((noun, what), Found(0, ()))
        if count < SHOWN:
            examples += (example,)
        self.found[noun, what] = Found(count + 1, examples)

    def count(self, noun: str) -> int:
        """How often an entry of this kind was found wrong."""
        return sum(found.count for (kind, _), found in self.found.items() if kind == noun)

    def lines(self) -> list[str]:
        """One line for each kind, such as "2 annotations of an unknown image, left out: train.json annotation 7, 9"."""
        return [
            f"{found.count} {noun if found.count == 1 else _PLURALS[noun]} {what}: {self.file} {noun} "
            + listed(found.examples, count=found.count)
            for (noun, what), found in self.found.items()
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def as_integer(value: object) -> int | None:
    """`value` where it is a whole number, as an id has to be (17 and 17.0, but not true and "17"), otherwise None."""
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def pack_polygons(entry: dict) -> dict:
    """Make float64 arrays of an entry's polygons as soon as it is parsed, which takes a quarter of the memory.

    What is not a list of numbers stays as it is, to be found by `check_segmentation`.
    """
    polygons = entry.get("segmentation")
    if type(polygons) is list:
        entry["segmentation"] = [_pack_polygon(polygon) for polygon in polygons]
    return entry


def _pack_polygon(polygon: object) -> object:
    try:
        return np.array(array("d", polygon))  # numpy alone would make numbers of strings and None too
    except (TypeError, OverflowError):
        return polygon


def check_segmentation(segmentation: object, *, height: int, width: int) -> tuple[Segmentation, Box]:
    """Check an entry's segmentation, after `pack_polygons`, against its picture; runs become compressed RLE.

    Of several polygons those with fewer than 3 points or half a point are left out.
    A polygon may be up to the picture's longer side outside of it.
    Returns it and its extent, x1, y1, x2, y2, which may reach as far. Raises UnusableError where nothing can be
    decoded.
    """
    if type(segmentation) is list and segmentation:
        return _check_polygons(segmentation, height=height, width=width)
    if type(segmentation) is dict:
        return _check_rle(segmentation, height=height, width=width)
    raise UnusableError("without a segmentation, left out")


def _check_polygons(polygons: list, *, height: int, width: int) -> tuple[Segmentation, Box]:
    if not all(isinstance(polygon, np.ndarray) for polygon in polygons):
        raise UnusableError("with a polygon that is no list of numbers, left out")
    usable = tuple([polygon for polygon in polygons if polygon.size >= MIN_COORDINATES and not polygon.size % 2])
    if not usable:
        raise UnusableError("whose polygons have fewer than 3 points or half a point, left out")
    # NaN fails the comparisons. pycocotools follows the outline in steps of 1/5 pixel, in memory, whatever its length.
    least, most = -max(height, width), 2 * max(height, width)
    extents = [_extent(polygon) for polygon in usable]
    for x1, y1, x2, y2 in extents:
        if not (x1 >= least and y1 >= least and x2 <= most and y2 <= most):
            raise UnusableError("with coordinates far outside of the picture or no numbers, left out")
    # The area of a figure of eight may cancel out, so what seems to have none is drawn.
    if all(_area(polygon) < 1 for polygon in usable) and not coco_mask.area(to_rle(usable, height, width)):
        raise UnusableError("whose polygons cover no pixel, left out")
    if len(extents) == 1:
        return usable, extents[0]
    x1, y1, x2, y2 = zip(*extents)
    return usable, (min(x1), min(y1), max(x2), max(y2))


def _extent(polygon: np.ndarray) -> Box:
    """x1, y1, x2, y2; NaN where a coordinate is."""
    points = polygon.reshape(-1, 2)
    return (*np.minimum.reduce(points).tolist(), *np.maximum.reduce(points).tolist())


def _area(polygon: np.ndarray) -> float:
    """The absolute area in square pixels, by the shoelace formula."""
    x, y = polygon[0::2], polygon[1::2]
    return abs(x[:-1].dot(y[1:]) - x[1:].dot(y[:-1]) + x[-1] * y[0] - x[0] * y[-1]) / 2


def _check_rle(rle: dict, *, height: int, width: int) -> tuple[Segmentation, Box]:
    size, counts = [height, width], rle.get("counts")
    if rle.get("size") != size:
        raise UnusableError("with an RLE whose size is not that of the picture, left out")
    runs = parse_runs(counts) if isinstance(counts, str) else _parse_plain_runs(counts)
    if runs is None or np.any(runs < 0) or np.any(runs > height * width) or runs.sum() != height * width:
        raise UnusableError("with an RLE whose runs do not fill the picture, left out")
    if not runs[1::2].any():
        raise UnusableError("whose RLE covers no pixel, left out")
    if isinstance(counts, str):
        usable = {"size": size, "counts": counts.encode("ascii")}
    else:
        usable = coco_mask.frPyObjects({"size": size, "counts": runs.astype(np.int64).tolist()}, height, width)
    x, y, w, h = coco_mask.toBbox(usable).tolist()
    return usable, (x, y, x + w, y + h)


def _parse_plain_runs(counts: object) -> np.ndarray | None:
    """The runs of an uncompressed RLE, float64 [n]; None where there are none or they are no whole numbers."""
    try:
        runs = np.array(array("d", counts or ()))
    except (TypeError, OverflowError):
        return None
    return runs if runs.size and (np.floor(runs) == runs).all() else None


def parse_runs(counts: str) -> np.ndarray | None:
    """The runs of a compressed RLE from a file, int64 [n]; None where the string is damaged."""
    if not counts or not counts.isascii():
        return None
    digits = _digits(counts.encode("ascii"))
    if digits.min() < 0 or digits.max() > 63 or digits[-1] >= 32:
        return None
    lengths = np.diff(np.flatnonzero(digits < 32), prepend=-1)
    return None if lengths.max() > _RLE_DIGITS else decode_runs(counts.encode("ascii"))


def decode_runs(counts: bytes) -> np.ndarray:
    """The runs of a compressed RLE that is not damaged, int64 [n].

    The format is that of pycocotools: a run is written in digits of 5 bits, the lowest first, in characters from "0"
    on; the sixth bit says that another digit follows, the fifth bit of the last one is the sign. From the fourth run
    on, the difference from the run before the last is written.
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
    """The compressed RLE of a usable segmentation; several polygons are united."""
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(list(segmentation), height, width))


def check_bbox(bbox: object) -> Box | None:
    """An entry's bbox: x, y, width, height; None where it has none. Raises UnusableError where it is no box."""
    if bbox is None or bbox == []:
        return None
    try:
        x, y, w, h = array("d", bbox)
    except (TypeError, ValueError, OverflowError):
        raise UnusableError("with a bbox that is not four numbers, left out") from None
    return x, y, w, h


def clip_box(box: Box, *, height: int, width: int) -> Box | None:
    """The part of x1, y1, x2, y2 that lies in the picture; None where there is none."""
    x1, y1, x2, y2 = box
    if not math.isfinite(x1 + y1 + x2 + y2):
        return None
    # Comparisons, because `max` and `min` would take most of the time of reading a million annotations' boxes.
    x1, y1 = x1 if x1 > 0 else 0.0, y1 if y1 > 0 else 0.0
    x2, y2 = x2 if x2 < width else float(width), y2 if y2 < height else float(height)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def boxes_match(box: Box, extent: Box) -> bool:
    """Whether a box, x1, y1, x2, y2, can be that of the mask with this extent."""
    if box == extent:
        return True
    w = min(box[2], extent[2]) - max(box[0], extent[0])
    h = min(box[3], extent[3]) - max(box[1], extent[1])
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, extent)]
    return w > 0 and h > 0 and w * h >= MIN_OVERLAP * (sum(areas) - w * h)


def check_area(area: object) -> float | None:
    """An entry's area in pixels; None where it has none that is a number."""
    try:
        return float(area) if type(area) in (int, float) and 0 <= area < math.inf else None
    except OverflowError:
        return None
