"""Convert masks to polygons with few points for annotation tools: the outer outline of each part, and its holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

MIN_IOU = 0.98  # of the simplified polygons with the mask
# The distance of an outline from its simplified one: at most this share of the square root of the mask's area, and at
# least this number of pixels, because a smaller one leaves most points.
_MAX_DISTANCE = 1 / 16
_MIN_DISTANCE = 0.2


class Part(NamedTuple):
    """A connected part of a mask.

    outer: its outline, float64 [k, 2], x and y in pixels, k >= 3; holes: the same of each hole. The points of exact
    outlines are corners of pixels: pixel (x, y) covers x to x + 1 and y to y + 1.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    def rings(self) -> Iterator[np.ndarray]:
        yield self.outer
        yield from self.holes


def exact_parts(crop: np.ndarray) -> list[Part]:
    """Return the parts of a mask, bool [h, w], whose rasterisation by pycocotools is the mask again.

    Pixels that touch only at corners belong to one part. A pixel has a square.
    """
    rings, parents = _pixel_rings(crop, cv2.RETR_CCOMP)
    holes: dict[int, list[np.ndarray]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for ring, parent in zip(rings, parents):
        if parent >= 0:
            holes[parent].append(ring)
    return [Part(rings[i], tuple(inner)) for i, inner in holes.items()]


def filled_rings(crop: np.ndarray) -> list[np.ndarray]:
    """Return the outer outlines of the mask's parts as `exact_parts` does, but not of those that lie in holes."""
    return _pixel_rings(crop, cv2.RETR_EXTERNAL)[0]


def simple_parts(crop: np.ndarray) -> list[Part]:
    """Return the parts of a mask, bool [h, w], with few points and an IoU of at least `MIN_IOU` with it.

    Holes and smaller parts are left out if the IoU allows it, all of them or none. Outlines run through the middles of
    the pixels' edges, which smooths the stairs of slanted ones, and are simplified by the algorithm of Douglas and
    Peucker (1973) with the largest of some distances for which the IoU, measured by pycocotools, is high enough; if
    there is none, they are exact. A ring of which less than a triangle would remain is exact too.
    """
    exact = exact_parts(crop)
    filled = [Part(part.outer) for part in exact]
    for parts in (sorted(filled, key=_area)[-1:], filled, exact):
        if iou(rasterise(parts, crop.shape), crop) >= MIN_IOU:
            return _simplify(parts, crop)
    raise AssertionError("exact parts have an IoU of 1")


def rasterise(parts: Sequence[Part], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of the parts, bool [height, width], as pycocotools fills polygons."""
    mask = np.zeros(size, bool)
    for part in parts:
        points = np.concatenate(list(part.rings()))
        left, top = np.floor(points.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
        # Of the window around it, because there may be thousands of parts. Shifts by whole pixels change no filling.
        shifted = [(ring - (left, top)).ravel().tolist() for ring in part.rings()]
        rles = coco_mask.frPyObjects(shifted, bottom - top, right - left)
        outer, *holes = (coco_mask.decode(rle).astype(bool) for rle in rles)
        for hole in holes:
            outer &= ~hole
        mask[top:bottom, left:right] |= outer
    return mask


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two masks, bool [h, w]; 1 for two empty ones."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


def join_rings(parts: Sequence[Part]) -> np.ndarray:
    """Return one outline, float64 [k, 2], of all parts and holes, for formats that know nothing else.

    Each further ring is joined by a line there and back, which has no area.
    """
    joined, *rest = (ring for part in parts for ring in part.rings())
    for ring in rest:
        here = _nearest_point(joined, ring[0])
        there = _nearest_point(ring, joined[here])
        joined = np.concatenate([joined[: here + 1], ring[there:], ring[: there + 1], joined[here:]])
    return joined


def _nearest_point(ring: np.ndarray, point: np.ndarray) -> int:
    return int(((ring - point) ** 2).sum(axis=1).argmin())


def _simplify(exact: list[Part], crop: np.ndarray) -> list[Part]:
    smooth = [[(_edge_midpoints(ring), ring) for ring in part.rings()] for part in exact]
    distance = _MAX_DISTANCE * float(np.sqrt(np.count_nonzero(crop)))
    while distance > _MIN_DISTANCE:
        parts = []
        for rings in smooth:
            outer, *holes = (_simplify_ring(*pair, distance) for pair in rings)
            parts.append(Part(outer, tuple(holes)))
        if iou(rasterise(parts, crop.shape), crop) >= MIN_IOU:
            return parts
        distance /= np.sqrt(2)
    return exact


def _simplify_ring(smooth: np.ndarray, ring: np.ndarray, distance: float) -> np.ndarray:
    simple = cv2.approxPolyDP(smooth.astype(np.float32)[:, None], distance, closed=True)[:, 0].astype(float)
    return simple if len(simple) >= 3 else ring


def _edge_midpoints(ring: np.ndarray) -> np.ndarray:
    """Return the middles of the edges of pixels along a ring of `exact_parts`: float64 [k, 2]."""
    steps = np.roll(ring, -1, axis=0) - ring  # along one axis
    counts = np.abs(steps).max(axis=1).astype(int)  # edges of pixels between two corners
    first = np.cumsum(counts) - counts
    along = np.arange(counts.sum()) - np.repeat(first, counts) + 0.5
    return np.repeat(ring, counts, axis=0) + np.repeat(np.sign(steps), counts, axis=0) * along[:, None]


def _area(part: Part) -> float:
    return cv2.contourArea(part.outer.astype(np.float32))


def _pixel_rings(crop: np.ndarray, mode: int) -> tuple[list[np.ndarray], list[int]]:
    """Return the outlines of a mask, float64 [k, 2] each, and of each hole the index of the outline around it.

    mode: of cv2.findContours. A contour runs through the centres of the pixels at the rim. At twice the size the first
    of the two pixels stands for the left or upper edge of the original pixel and the second for the right or lower one,
    which halving and rounding up gives.
    """
    if not crop.any():
        return [], []
    doubled = crop.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_SIMPLE)
    corners = [(contour[:, 0] + 1) // 2 for contour in contours]
    turns = [(ring != np.roll(ring, 1, axis=0)).any(axis=1) for ring in corners]
    return [ring[kept].astype(float) for ring, kept in zip(corners, turns)], hierarchy[0, :, 3].tolist()
