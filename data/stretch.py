"""Map the values of a picture, of any number of bits, to 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np

from config.errors import InputError
from config.rules import STRETCH

_BLOCK = 2**18  # values that are counted and looked up at once: their indices take 8 bytes each and stay in the cache


@dataclass(frozen=True)
class Stretch:
    """How the values of a picture become 0 to 255: from `low` to `high`, with an exponent `gamma`."""

    low: float
    high: float
    gamma: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return a picture, numbers [H, W] or [H, W, 3], as uint8 [H, W, 3]; grey has three equal channels."""
        if is_counted(values.dtype):  # several times as fast
            limits = np.iinfo(values.dtype)
            table = self._map(np.arange(limits.min, limits.max + 1))
            flat = np.ascontiguousarray(values).reshape(-1)
            stretched = np.empty(flat.shape, np.uint8)
            for block in _blocks(flat):
                stretched[block] = table[_indices(flat[block])]
            stretched = stretched.reshape(values.shape)
        else:
            stretched = self._map(values)
        return stretched if stretched.ndim == 3 else cv2.cvtColor(stretched, cv2.COLOR_GRAY2RGB)

    def _map(self, values: np.ndarray) -> np.ndarray:
        if self.low == self.high:
            return (values > self.high) * np.uint8(255)
        mapped = values.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a range beyond that of float64
            np.clip(mapped, self.low, self.high, out=mapped)  # keeps NaN
            mapped -= self.low
            mapped /= self.high - self.low
        mapped[np.isnan(mapped)] = 0
        mapped **= self.gamma
        mapped *= 255
        return np.rint(mapped, out=mapped).astype(np.uint8)


def stretch_picture(values: np.ndarray, stretch: Sequence[float]) -> np.ndarray:
    """Stretch a picture, numbers [H, W] or [H, W, 3] of any dtype, to uint8 [H, W, 3]; grey has three equal channels.

    stretch: `data.stretch` of a config: low percentile, high percentile, gamma and, if given, a least range. With the
    values `low` and `high` of the two percentiles, a value v becomes
    rint(255 * clip((v - low) / (high - low), 0, 1) ** gamma), computed in float64.
    In integers of more than 8 bits, which are counts of a camera, `high` is at least `low` + the least range, so that
    the noise of an empty picture stays dark. Other values may have been scaled, and keep their percentiles.
    Percentile q is the smallest value of the picture that at least q % of its values do not exceed ("inverted_cdf" in
    numpy.percentile). All channels count together, and only finite values.
    If low and high are still equal, larger values become 255 and all others 0, so that a constant picture is black.
    NaN and -inf become 0 and +inf 255, but everything 0 in a picture without a finite value.
    Raises InputError for a `stretch` that makes no sense.
    """
    return measure_stretch([values], stretch).apply(values)


def measure_stretch(parts: Iterable[np.ndarray], stretch: Sequence[float]) -> Stretch:
    """Return how to stretch the picture that consists of these parts, of one dtype, as `stretch_picture` does it."""
    if not stretch or not STRETCH.accepts(stretch):
        raise InputError(f"stretch={stretch}: expected {STRETCH.expected}")
    percents, (gamma, *optional) = stretch[:2], stretch[2:]
    parts = iter(parts)
    first = next(parts)
    dtype = first.dtype
    find_percentiles = _percentiles_by_counting if is_counted(dtype) else _percentiles_by_sorting
    low, high = find_percentiles(chain([first], parts), dtype, percents)
    least_range = optional[0] if optional and dtype.kind in "iu" and dtype.itemsize > 1 else 0.0
    return Stretch(low, max(high, low + least_range), gamma)


def is_counted(dtype: np.dtype) -> bool:
    """Return whether the values are integers of up to 16 bits, of which there are so few that each is counted."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _percentiles_by_counting(
    parts: Iterable[np.ndarray], dtype: np.dtype, percents: Sequence[float]
) -> tuple[float, float]:
    limits = np.iinfo(dtype)
    counts = np.zeros(limits.max - limits.min + 1, np.int64)
    for part in parts:
        flat = np.ascontiguousarray(part).reshape(-1)
        for block in _blocks(flat):
            counts += np.bincount(_indices(flat[block]), minlength=len(counts))
    ranks = [_rank(int(counts.sum()), percent) for percent in percents]
    low, high = (limits.min + np.searchsorted(counts.cumsum(), ranks, side="right")).tolist()
    return low, high


def _percentiles_by_sorting(
    parts: Iterable[np.ndarray], dtype: np.dtype, percents: Sequence[float]
) -> tuple[float, float]:
    """Return the percentiles of the finite values; without any, so large ones that all other values become 0."""
    finite = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not finite.size:
        return np.inf, np.inf
    ranks = [_rank(finite.size, percent) for percent in percents]
    finite.partition(ranks)
    low, high = finite[ranks].tolist()
    return low, high


def _blocks(flat: np.ndarray) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, flat.size, _BLOCK)]


def _indices(integers: np.ndarray) -> np.ndarray:
    return integers.astype(np.intp) - np.iinfo(integers.dtype).min


def _rank(count: int, percent: float) -> int:
    """Return the place, from 0, of a percentile among `count` sorted values."""
    return max(math.ceil(count * (percent / 100) - 1), 0)
