"""Convert labelme's shapes to instances: polygons, rectangles, circles and lines to polygons, masks to RLE."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from shapely import LineString, Point

from data.coco_checks import MAX_OUTLINE, outline_length
from data.coco_rows import CocoInstance

IGNORED_LABELS = ("__ignore__", "_background_")  # labelme's labels for areas that are not objects
POINT_KINDS = ("point", "points")
# Allowed number of points of each kind; a rectangle has two opposite corners, or all four in X-AnyLabeling.
POINT_COUNTS = {
    "polygon": range(3, sys.maxsize),
    "rectangle": (2, 4),
    "oriented_rectangle": (4,),
    "circle": (2,),
    "line": (2,),
    "linestrip": range(2, sys.maxsize),
    "mask": (1, 2),
}
MAX_COORDINATE = 1e6  # limit of coordinates and line widths in pixels; larger than any readable picture
CIRCLE_TOLERANCE = 0.1  # pixels, maximum distance between a circle and its polygon


class UnusableShapeError(ValueError):
    """A shape gives no mask; the message is the reason."""


class ConvertedShapes(NamedTuple):
    """The shapes of a picture as instances.

    instances: in the order of their first shapes.
    left_out: "shape 3: reason" for each shape that gives no mask, counted from 1.
    points: number of point shapes, which have no area.
    """

    instances: tuple[CocoInstance, ...]
    left_out: tuple[str, ...]
    points: int


def convert_shapes(shapes: Sequence[Any], *, height: int, width: int, line_width: float) -> ConvertedShapes:
    """Convert the `shapes` of a labelme file for a picture of this size; line_width in pixels.

    Shapes with the same label and group_id are one instance. Parts outside of the picture are cut off.
    Shapes with a label of IGNORED_LABELS are not counted at all.
    """
    groups: dict[object, list[CocoInstance]] = {}
    left_out, points = [], 0
    for number, shape in enumerate(shapes, start=1):
        try:
            kind, label = _read_kind_and_label(shape)
            if label in IGNORED_LABELS:
                continue
            if kind in POINT_KINDS:
                points += 1
                continue
            part = _convert_shape(shape, kind, label, height=height, width=width, line_width=line_width)
        except UnusableShapeError as reason:
            left_out.append(f"shape {number}: {reason}")
            continue
        group = shape.get("group_id")
        groups.setdefault(number if group is None else (label, str(group)), []).append(part)
    instances = tuple(CocoInstance.union(parts) for parts in groups.values())
    return ConvertedShapes(instances, tuple(left_out), points)


def _read_kind_and_label(shape: Any) -> tuple[str, str]:
    if not isinstance(shape, dict):
        raise UnusableShapeError("is not a labelme shape")
    label = shape.get("label")
    if not isinstance(label, (str, type(None))):
        raise UnusableShapeError(f"has a label that is no text, {label!r}")
    if not label or not label.strip():
        raise UnusableShapeError("has no label")
    if not label.strip().isprintable():
        raise UnusableShapeError(f"has a label with line breaks or control characters, {label!r}")
    return str(shape.get("shape_type") or "polygon"), label.strip()  # early labelme files have only polygons


def _convert_shape(shape: dict, kind: str, label: str, *, height: int, width: int, line_width: float) -> CocoInstance:
    """Convert the part of a shape that lies in the picture. Raises UnusableShapeError if there is none."""
    if kind not in POINT_COUNTS:
        raise UnusableShapeError(f"'{label}' is of unknown kind {kind}")
    points = _read_points(shape, label)
    if len(points) not in POINT_COUNTS[kind]:
        raise UnusableShapeError(f"{kind} '{label}' has {len(points)} points")
    if kind == "mask":
        part = CocoInstance.from_mask(label, _paste_mask(shape, label, points[0], height=height, width=width))
    else:
        outlines = [
            clip_polygon(outline, height=height, width=width) for outline in _outline_polygons(kind, points, line_width)
        ]
        polygons = [outline.round(2).ravel() for outline in outlines if len(outline) >= 3]
        if not polygons:
            raise UnusableShapeError(f"{kind} '{label}' has no area in the picture")
        if outline_length(polygons) > MAX_OUTLINE:
            raise UnusableShapeError(f"{kind} '{label}' has an outline of more than {MAX_OUTLINE} pixels")
        lists = [polygon.tolist() for polygon in polygons]
        part = CocoInstance.from_polygons(label, lists, height=height, width=width)
    if part.area == 0:
        raise UnusableShapeError(f"{kind} '{label}' covers no pixel of the picture")
    return part


def _read_points(shape: dict, label: str) -> np.ndarray:
    """Return the points of a shape, float64 [n, 2], x and y in pixels."""
    try:
        points = np.array(shape.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    # The comparison is false for NaN too, which Python's JSON reader accepts.
    if points.ndim != 2 or points.shape[1] != 2:
        raise UnusableShapeError(f"'{label}' has no list of points x, y")
    if not (np.abs(points) < MAX_COORDINATE).all():
        raise UnusableShapeError(f"'{label}' has coordinates that are NaN or far outside of the picture")
    return points


def _paste_mask(shape: dict, label: str, corner: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Paste a mask shape, a picture of its box that is not 0 inside, into an empty mask: bool [height, width].

    Its upper left corner is the first point, rounded; the second point is not used (labelme, shapes_to_label).
    """
    encoded: Any = shape.get("mask")
    try:
        content = np.frombuffer(base64.b64decode(encoded), np.uint8)
    except (TypeError, ValueError) as error:
        raise UnusableShapeError(f"mask '{label}' is not in base64 ({error})") from error
    try:
        crop = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except cv2.error as error:
        raise UnusableShapeError(f"mask '{label}' cannot be decoded; it may be too large") from error
    if crop is None or crop.ndim != 2:
        raise UnusableShapeError(f"mask '{label}' is not a picture with one channel")
    left, top = np.rint(corner).astype(int)
    mask = np.zeros((height, width), bool)
    window = mask[max(top, 0) : max(top + crop.shape[0], 0), max(left, 0) : max(left + crop.shape[1], 0)]
    window[...] = crop[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]] != 0
    return mask


def _outline_polygons(kind: str, points: np.ndarray, line_width: float) -> list[np.ndarray]:
    """Return the polygons, float64 [n, 2] each, whose union is the shape."""
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        return [np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])]
    if kind == "circle":
        centre, rim = points
        return [_buffer_outline(Point(centre), math.dist(centre, rim))]
    if kind in ("line", "linestrip"):
        # One polygon per segment, because a closed line has a hole and COCO's polygons cannot have one.
        return [_buffer_outline(LineString(segment), line_width / 2) for segment in zip(points, points[1:])]
    return [points]


def _buffer_outline(geometry: Point | LineString, radius: float) -> np.ndarray:
    """Return the outline, float64 [n, 2], of the area within `radius` pixels of a point or a line segment.

    A chord over the angle a is up to radius * a^2 / 8 inside of its arc; that is kept below CIRCLE_TOLERANCE.
    """
    chords = math.pi / 2 / math.sqrt(8 * CIRCLE_TOLERANCE / radius) if radius else 1  # per quarter circle
    outline = geometry.buffer(radius, quad_segs=max(2, math.ceil(chords))).exterior
    return np.array(outline.coords).reshape(-1, 2)[:-1]


def clip_polygon(points: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Clip a polygon to a picture: float64 [n, 2] to [m, 2], x and y in pixels, m = 0 if nothing remains.

    The algorithm of Sutherland and Hodgman (1974), which folds the cut parts onto the border. Unlike shapely's
    intersection, it accepts polygons that cross themselves and keeps how they are filled within the picture.
    """
    for axis, side, inward in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depths = (points[:, axis] - side) * inward
        if depths.size and depths.min() >= 0:
            continue
        kept = []
        for start, end, before, after in zip(points, np.roll(points, -1, axis=0), depths, np.roll(depths, -1)):
            if before >= 0:
                kept.append(start)
            if before * after < 0:
                kept.append(start + (end - start) * (before / (before - after)))
        points = np.array(kept).reshape(-1, 2)
    return points
