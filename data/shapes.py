"""Draw random pictures of overlapping shapes with exact instance masks.

They need no download and serve as demo pictures, test data and a training set that a small network learns in minutes.
The same generator state gives the same picture on every machine: the arithmetic is element-wise, in numpy or in integer
OpenCV functions, and does not depend on the number of threads.

    scene = draw_scene(rng=np.random.default_rng(0), height=256, width=256)
    write_coco(scenes=[scene], output=Path("datasets/shapes"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.class_lists import ClassList
from data.coco_rows import CocoInstance, CocoPicture, coco_dict
from data.written import write_drawing, write_json

MIN_VISIBLE = 0.4  # share of a shape's area that must be visible
MIN_SIDE = 64  # of a picture, in pixels
MIN_DIAMETER = 12.0  # pixels
MIN_SHAPES, MAX_SHAPES = 2, 8
PLACEMENT_TRIES = 20
COLOUR_DISTANCE = 75.0  # Euclidean, in RGB of 0..255


@dataclass(frozen=True)
class Scene:
    """A drawn picture with its instances.

    image: uint8 [H, W, 3], RGB.
    masks: bool [n, H, W], the visible part of each instance; disjoint and never empty.
    classes: int64 [n], indices into CLASS_NAMES.
    """

    image: np.ndarray
    masks: np.ndarray
    classes: np.ndarray


def _circle(u: np.ndarray, v: np.ndarray, *, radius: float = 1.0, at: float = 0.0) -> np.ndarray:
    return radius - np.sqrt((u - at) ** 2 + v * v)


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(0.95 - np.abs(u), 0.3 - np.abs(v))


def _lines(u: np.ndarray, v: np.ndarray, *, count: int, distance: float) -> np.ndarray:
    """Return the depth behind `count` lines, evenly rotated, `distance` from the centre: [count, h, w], sorted."""
    angles = [2 * math.pi * k / count for k in range(count)]
    return np.sort([distance - (u * math.cos(angle) + v * math.sin(angle)) for angle in angles], axis=0)


# Each shape lies in the unit circle and is defined by its depth at (u, v): positive inside, 0 on the outline, negative
# outside, and near the outline roughly the distance to it. The mask consists of the pixels with a depth >= 0.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": _circle,
    "square": lambda u, v: _lines(u, v, count=4, distance=math.cos(math.pi / 4))[0],
    "triangle": lambda u, v: _lines(u, v, count=3, distance=math.cos(math.pi / 3))[0],
    "ring": lambda u, v: np.minimum(_circle(u, v), -_circle(u, v, radius=0.55)),
    "cross": lambda u, v: np.maximum(_bar(u, v), _bar(v, u)),
    # A point inside a five-pointed star is beyond at most one of the five lines that form the star.
    "star": lambda u, v: _lines(u, v, count=5, distance=math.cos(2 * math.pi / 5))[1],
    "hexagon": lambda u, v: _lines(u, v, count=6, distance=math.cos(math.pi / 6))[0],
    "crescent": lambda u, v: np.minimum(_circle(u, v), -_circle(u, v, radius=0.8, at=0.45)),
}
CLASS_NAMES = tuple(SHAPES)


def _smooth_noise(rng: np.random.Generator, *, height: int, width: int, cell: float, channels: int = 1) -> np.ndarray:
    """Interpolate random values on a grid with one knot every `cell` pixels: float32 [channels, H, W] in 0..1."""
    rows, columns = math.ceil(height / cell) + 1, math.ceil(width / cell) + 1
    knots = rng.integers(0, 256, (rows, columns, channels), dtype=np.uint8)
    # INTER_LINEAR rounds differently on different processors.
    noise = cv2.resize(knots, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).reshape(height, width, channels)
    return noise.transpose(2, 0, 1).astype(np.float32, order="C") / 255


def _checks(x: np.ndarray, y: np.ndarray, *, size: float) -> np.ndarray:
    return (np.floor(x / size) + np.floor(y / size)) % 2


def _dots(x: np.ndarray, y: np.ndarray, *, period: float) -> np.ndarray:
    return (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (0.3 * period) ** 2


# Each texture maps coordinates in pixels, float32 [h, w], to the share of the second colour, [h, w] in 0..1.
TEXTURES: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda rng, x, y: np.zeros_like(x),
    "gradient": lambda rng, x, y: (x - x.min()) / (x.max() - x.min()),
    "stripes": lambda rng, x, y: np.floor(x / rng.uniform(3, 10)) % 2,
    "checks": lambda rng, x, y: _checks(x, y, size=rng.uniform(4, 12)),
    "dots": lambda rng, x, y: _dots(x, y, period=rng.uniform(6, 16)),
    "noise": lambda rng, x, y: _smooth_noise(rng, height=len(x), width=x.shape[1], cell=rng.uniform(2, 6))[0],
}


def _draw_texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, *, colours: tuple) -> np.ndarray:
    """Draw a random texture of two colours, float32 [3] each, at the given coordinates: float32 [3, h, w]."""
    first, second = (colour[:, None, None] for colour in colours)
    texture = list(TEXTURES.values())[rng.integers(len(TEXTURES))]
    return first + (second - first) * texture(rng, x, y)


def _draw_colour(rng: np.random.Generator, *, away_from: list[np.ndarray]) -> np.ndarray:
    """Draw a colour, float32 [3], the first of 32 with COLOUR_DISTANCE to the given ones, or else the most distant."""
    tries = rng.integers(0, 256, (32, 3)).astype(np.float32)
    nearest = np.min([np.sqrt(((tries - colour) ** 2).sum(axis=1)) for colour in away_from], axis=0)
    return tries[np.argmax(np.minimum(nearest, COLOUR_DISTANCE))]


def _pixel_coordinates(
    *, height: int, width: int, centre: tuple[float, float], angle: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of all pixel centres relative to `centre`, rotated by `angle`: float32 [h, w] each, in pixels."""
    x = (np.arange(width) + 0.5 - centre[0]).astype(np.float32)[None, :]
    y = (np.arange(height) + 0.5 - centre[1]).astype(np.float32)[:, None]
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _draw_strokes(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw thin lines, arcs and outlines into a uint8 [H, W, 3] picture as clutter that resembles shapes."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(4, 14)):
        points = rng.integers(0, (width, height), (3, 2))
        x, y = start = points[0].tolist()
        colour = np.clip(image[y, x] + rng.integers(-90, 91, 3), 0, 255).tolist()
        thickness = int(rng.integers(1, 4))
        kind = rng.integers(3)
        if kind == 0:
            cv2.line(image, start, points[1].tolist(), colour, thickness, cv2.LINE_AA)
        elif kind == 1:
            axes = rng.integers(5, min(height, width) // 4, 2).tolist()
            turn, sweep = int(rng.integers(180)), int(rng.integers(90, 361))
            cv2.ellipse(image, start, axes, turn, 0, sweep, colour, thickness, cv2.LINE_AA)
        else:
            triangle = points[0] + (points - points[0]) // 4
            cv2.polylines(image, [triangle.astype(np.int32)], True, colour, thickness, cv2.LINE_AA)


def _draw_background(rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
    """Draw a cluttered background without instances: float32 [3, H, W] in 0..255."""
    side = min(height, width)
    x, y = _pixel_coordinates(
        height=height, width=width, centre=(width / 2, height / 2), angle=rng.uniform(0, 2 * math.pi)
    )
    first = rng.integers(20, 236, 3).astype(np.float32)
    image = _draw_texture(rng, x, y, colours=(first, first + rng.integers(-60, 61, 3).astype(np.float32)))
    clouds = _smooth_noise(rng, height=height, width=width, cell=side / rng.uniform(2, 6), channels=3)
    image += (clouds - 0.5) * rng.uniform(20, 160)
    blobs = _smooth_noise(rng, height=height, width=width, cell=side / rng.uniform(4, 12)) > rng.uniform(0.6, 0.8)
    image += blobs * rng.integers(-70, 71, (3, 1, 1)).astype(np.float32)
    grey = image.mean(axis=0)
    image = np.clip(grey + (image - grey) * rng.uniform(0.2, 1), 0, 255)
    canvas = image.transpose(1, 2, 0).astype(np.uint8, order="C")  # [H, W, 3]
    _draw_strokes(rng, canvas)
    return canvas.transpose(2, 0, 1).astype(np.float32, order="C")


@dataclass(frozen=True)
class _Patch:
    """One shape in its window of the picture. x, y, depth: float32 [h, w], in pixels of the picture."""

    window: tuple[slice, slice]
    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    full_area: int  # pixels of the shape if nothing hides it and the picture does not cut it

    @property
    def mask(self) -> np.ndarray:
        return self.depth >= 0


def _rasterise(
    name: str, *, picture: tuple[int, int], centre: tuple[float, float], radius: float, angle: float, aspect: float
) -> _Patch:
    """Rasterise a shape around `centre` (x, y) in a picture (H, W): its y scaled by `aspect`, then rotated."""
    reach = math.ceil(radius) + 2
    left, top, size = math.floor(centre[0]) - reach, math.floor(centre[1]) - reach, 2 * reach + 1
    x, y = _pixel_coordinates(height=size, width=size, centre=(centre[0] - left, centre[1] - top), angle=angle)
    depth = SHAPES[name](x / radius, y / (radius * aspect)) * radius
    rows = slice(max(top, 0), min(top + size, picture[0]))
    columns = slice(max(left, 0), min(left + size, picture[1]))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    full_area = np.count_nonzero(depth >= 0)
    return _Patch(window=(rows, columns), x=x[inside], y=y[inside], depth=depth[inside], full_area=full_area)


def _fits(patch: _Patch, *, owners: np.ndarray, full_areas: list[int]) -> bool:
    """Return whether the new shape and all shapes under it keep MIN_VISIBLE of their area visible.

    owners: int64 [H, W], the number of the visible shape from 1 on, 0 for the background.
    """
    if np.count_nonzero(patch.mask) < MIN_VISIBLE * patch.full_area:
        return False
    visible = np.bincount(owners.ravel(), minlength=len(full_areas) + 1)[1:]
    hidden = np.bincount(owners[patch.window][patch.mask], minlength=len(full_areas) + 1)[1:]
    return bool(np.all(visible - hidden >= MIN_VISIBLE * np.array(full_areas)))


def _paint(rng: np.random.Generator, image: np.ndarray, patch: _Patch) -> None:
    """Paint the shape into a float32 [3, H, W] picture: textured, lit from one side, with a blended edge."""
    background = image[(..., *patch.window)]
    mean_colour = background[:, patch.mask].mean(axis=1)
    first = _draw_colour(rng, away_from=[mean_colour])
    second = _draw_colour(rng, away_from=[mean_colour, first])
    light = 1 + rng.uniform(0, 0.4) * patch.x / np.abs(patch.x).max()
    rim = 1 - rng.uniform(0, 0.5) * np.clip(1 - patch.depth / 3, 0, 1)
    fill = _draw_texture(rng, patch.x, patch.y, colours=(first, second)) * (light * rim)
    opacity = np.clip(patch.depth / rng.uniform(1, 3) + 0.5, 0, 1)
    background += (np.clip(fill, 0, 255) - background) * opacity


def _add_blur_and_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add slight blur and sensor noise to a float32 [3, H, W] picture: uint8 [H, W, 3]."""
    strength = rng.uniform(0, 0.25)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, 1:-1] * (1 - 2 * strength) + (padded[:, :-2] + padded[:, 2:]) * strength
    blurred = rows[..., 1:-1] * (1 - 2 * strength) + (rows[..., :-2] + rows[..., 2:]) * strength
    amplitude = int(rng.integers(2, 14))
    blurred += rng.integers(-amplitude, amplitude + 1, image.shape, dtype=np.int8)
    return np.clip(blurred, 0, 255).transpose(1, 2, 0).astype(np.uint8, order="C")


def draw_scene(
    *, rng: np.random.Generator, height: int, width: int, diameters: Sequence[float] = (20 / 256, 1 / 2)
) -> Scene:
    """Draw a picture of MIN_SHAPES to MAX_SHAPES shapes; advances `rng`.

    Diameters are log-uniform between two shares of the shorter side, and at least MIN_DIAMETER. At least the share
    MIN_VISIBLE of each shape is in the picture and not covered; after PLACEMENT_TRIES failed tries it is left out.
    Raises ValueError if a side is shorter than MIN_SIDE pixels.
    """
    side = min(height, width)
    if side < MIN_SIDE:
        raise ValueError(f"a scene needs at least {MIN_SIDE} pixels per side, not {height}x{width}")
    image = _draw_background(rng, height=height, width=width)
    owners = np.zeros((height, width), np.int64)
    classes: list[int] = []
    full_areas: list[int] = []
    # All centres lie in one random part of the picture, so that some pictures are crowded.
    spread = rng.uniform(0.4, 1)
    left, top = rng.uniform(0, 1 - spread, 2)
    smallest, largest = max(MIN_DIAMETER, side * diameters[0]), side * diameters[1]
    for chosen in rng.integers(0, len(CLASS_NAMES), rng.integers(MIN_SHAPES, MAX_SHAPES + 1)).tolist():
        for _ in range(PLACEMENT_TRIES):
            patch = _rasterise(
                CLASS_NAMES[chosen],
                picture=(height, width),
                centre=((left + spread * rng.random()) * width, (top + spread * rng.random()) * height),
                radius=smallest * (largest / smallest) ** rng.random() / 2,
                angle=rng.uniform(0, 2 * math.pi),
                aspect=rng.uniform(0.75, 1),
            )
            if _fits(patch, owners=owners, full_areas=full_areas):
                _paint(rng, image, patch)
                classes.append(chosen)
                full_areas.append(patch.full_area)
                owners[patch.window][patch.mask] = len(classes)
                break
    masks = owners == np.arange(1, len(classes) + 1)[:, None, None]  # [n, H, W]
    return Scene(image=_add_blur_and_noise(rng, image), masks=masks, classes=np.array(classes, np.int64))


def write_coco(*, scenes: Iterable[Scene], output: Path, suffix: str = ".jpg") -> None:
    """Write scenes as a data set: `output`/images/000001.jpg ... and `output`/annotations.json in COCO form.

    Masks are compressed RLE; ids start at 1, and a category's id is its index in CLASS_NAMES plus 1. The annotations
    are written last, so that they never name a missing picture. suffix: ".jpg" or ".png".
    """
    write_data_set(scenes, output / "annotations.json", output / "images", suffix)


def write_data_set(scenes: Iterable[Scene], annotations: Path, folder: Path, suffix: str = ".jpg") -> None:
    """Write scenes as `write_coco` does, with annotations and pictures in these places."""
    classes = ClassList(names=CLASS_NAMES, ids=tuple(range(1, len(CLASS_NAMES) + 1)))
    coco = coco_dict(_write_pictures(scenes, folder, suffix), classes)
    write_json(annotations, coco, kind="annotations of shapes")


def picture_name(number: int, suffix: str = ".jpg") -> str:
    """Return the file name of the scene with this number, counted from 1."""
    return f"{number:06d}{suffix}"


def _write_pictures(scenes: Iterable[Scene], folder: Path, suffix: str) -> Iterator[CocoPicture]:
    for number, scene in enumerate(scenes, start=1):
        name = picture_name(number, suffix)
        write_drawing(folder / name, scene.image)
        height, width = scene.image.shape[:2]
        instances = (
            CocoInstance.from_mask(CLASS_NAMES[class_id], mask)
            for mask, class_id in zip(scene.masks, scene.classes.tolist())
        )
        yield CocoPicture(name, height, width, tuple(instances))
