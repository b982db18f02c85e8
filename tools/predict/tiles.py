"""Cut large pictures into overlapping tiles, and reduce them for what is larger than a tile.

A tile finds what fits into it. What is larger is found in tiles of the reduced picture. `tools/predict/tile_joining.py`
puts the results together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from config.base import Config
from data.geometry import Window
from data.picture_windows import Overview, PictureWindows
from tools.predict.instances import Instances
from tools.predict.mask_windows import Size
from tools.predict.predictor import DEFAULT_THREADS, Predictor
from tools.predict.tile_joining import Level, join_levels

OVERLAP = 0.25  # default share of a tile's side
MAX_OVERLAP = 0.5  # with more, a tile would meet others than its neighbours
MIN_SIDE = 64  # pixels
_LEVEL_STEP = 1 / OVERLAP + 1  # most between the factors of two levels


class Tiling(NamedTuple):
    """How pictures are cut: the side of the square tiles in pixels, and the share of it that two neighbours have in
    common."""

    side: int
    overlap: float = OVERLAP

    def fits(self, size: Size) -> bool:
        """Return whether a picture of this size is one tile."""
        return max(size) <= self.side


class Tile(NamedTuple):
    """A tile of a picture. level: its index among the levels. window: in pixels of the picture that the level reduces.
    share: 1 / number of tiles of the picture."""

    level: int
    window: Window
    share: float
    is_last: bool


class TiledPicture:
    """A picture, its levels and their tiles.

    Level 0 is the picture itself. The others reduce it by a factor, at most `_LEVEL_STEP` from one to the next where
    the overview has as many pixels, and the last one fits into a tile.
    """

    def __init__(self, windows: PictureWindows, tiling: Tiling) -> None:
        self.windows, self.tiling = windows, tiling
        self.overview: Overview = windows.overview()
        self.factors = level_factors(windows.size, tiling.side, least=self.overview.factor)
        self._reduced: list[np.ndarray | None] = [None, *(self._reduce(factor) for factor in self.factors[1:])]

    def tiles(self) -> Iterator[Tile]:
        sizes = [self.windows.size, *(image.shape[:2] for image in self._reduced if image is not None)]
        planned = [(level, window) for level, size in enumerate(sizes) for window in plan_windows(size, self.tiling)]
        for index, (level, window) in enumerate(planned):
            yield Tile(level, window, 1 / len(planned), index == len(planned) - 1)

    def read(self, tile: Tile) -> np.ndarray:
        """Return the pixels of a tile, uint8 [h, w, 3] RGB."""
        reduced = self._reduced[tile.level]
        if reduced is None:
            return self.windows.read(tile.window)
        top, left, bottom, right = tile.window
        return reduced[top:bottom, left:right]

    def join(self, found: Sequence[tuple[Tile, Instances]]) -> Instances:
        """Return the instances of the picture from those of its tiles."""
        levels = []
        for level, factor in enumerate(self.factors):
            tiles = [(tile.window, instances) for tile, instances in found if tile.level == level]
            reduced = self._reduced[level]
            size = self.windows.size if reduced is None else reduced.shape[:2]
            levels.append(Level(factor, size, tiles))
        return join_levels(self.windows.size, levels, overlap=self.tiling.side * self.tiling.overlap)

    def _reduce(self, factor: float) -> np.ndarray:
        """Return the picture reduced by a factor, from the overview."""
        size = [max(round(side / factor), 1) for side in self.windows.size]
        return cv2.resize(self.overview.image, size[::-1], interpolation=cv2.INTER_AREA)


def level_factors(size: Size, side: int, *, least: float) -> list[float]:
    """Return 1 and the factors by which the other levels reduce a picture; they are at least `least`."""
    largest = max(size) / side
    if largest <= 1:
        return [1.0]
    steps = math.ceil(math.log(largest, _LEVEL_STEP))
    factors = [largest ** (step / steps) for step in range(1, steps + 1)]
    return [1.0, *dict.fromkeys(max(factor, least) for factor in factors)]


def plan_windows(size: Size, tiling: Tiling) -> list[Window]:
    """Return windows that cover a picture, row by row, spread evenly with at least the overlap of `tiling`."""
    rows, columns = (_starts(length, tiling) for length in size)
    height, width = (min(tiling.side, length) for length in size)
    return [Window(top, left, top + height, left + width) for top, left in product(rows, columns)]


def _starts(length: int, tiling: Tiling) -> list[int]:
    rest = max(length - tiling.side, 0)
    steps = math.ceil(rest / max(tiling.side * (1 - tiling.overlap), 1))
    return [round(rest * step / steps) for step in range(steps + 1)] if steps else [0]


def network_side(config: Config) -> int:
    """Return the side of the largest square tile that the network sees without reducing it."""
    return min(config.data.fixed_size or (config.data.short_side, config.data.long_side))


def predict_tiles(
    predictor: Predictor, windows: PictureWindows, tiling: Tiling, *, threads: int = DEFAULT_THREADS
) -> Instances:
    """Return the instances of a large picture. Its tiles are predicted one after the other."""
    picture = TiledPicture(windows, tiling)
    tiles = list(picture.tiles())
    found = predictor.stream((picture.read(tile) for tile in tiles), threads=threads)
    return picture.join(list(zip(tiles, found)))
