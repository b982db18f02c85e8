"""Map the values of a picture, of any number of bits, to 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from config.errors import InputError
from config.rules import STRETCH

_BLOCK = 2**18  # values that are counted and looked up at once: their indices take 8 bytes each and stay in the cache


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
    if not stretch or not STRETCH.accepts(stretch):
        raise InputError(f"stretch={stretch}: expected {STRETCH.expected}")
    percents, (gamma, *optional) = stretch[:2], stretch[2:]
    are_integers, size = values.dtype.kind in "iu", values.dtype.itemsize
    least_range = optional[0] if optional and are_integers and size > 1 else 0.0
    stretch_values = _stretch_by_table if are_integers and size <= 2 else _stretch_by_sorting
    stretched = stretch_values(values, percents, gamma, least_range)
    return stretched if stretched.ndim == 3 else cv2.cvtColor(stretched, cv2.COLOR_GRAY2RGB)


def _stretch_by_table(values: np.ndarray, percents: Sequence[float], gamma: float, least_range: float) -> np.ndarray:
    """Stretch integers of up to 16 bits; several times as fast as `_stretch_by_sorting`."""
    limits = np.iinfo(values.dtype)
    flat = np.ascontiguousarray(values).reshape(-1)
    blocks = [slice(start, start + _BLOCK) for start in range(0, flat.size, _BLOCK)]
    counts = np.zeros(limits.max - limits.min + 1, np.int64)
    for block in blocks:
        counts += np.bincount(_indices(flat[block]), minlength=len(counts))
    ranks = [_rank(flat.size, percent) for percent in percents]
    low, high = (limits.min + np.searchsorted(counts.cumsum(), ranks, side="right")).tolist()
    table = _map_values(np.arange(limits.min, limits.max + 1), low, max(high, low + least_range), gamma)
    stretched = np.empty(flat.shape, np.uint8)
    for block in blocks:
        stretched[block] = table[_indices(flat[block])]
    return stretched.reshape(values.shape)


def _indices(integers: np.ndarray) -> np.ndarray:
    return integers.astype(np.intp) - np.iinfo(integers.dtype).min


def _stretch_by_sorting(values: np.ndarray, percents: Sequence[float], gamma: float, least_range: float) -> np.ndarray:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    ranks = [_rank(finite.size, percent) for percent in percents]
    finite.partition(ranks)
    low, high = finite[ranks].tolist()
    return _map_values(values, low, max(high, low + least_range), gamma)


def _rank(count: int, percent: float) -> int:
    """Return the place, from 0, of a percentile among `count` sorted values."""
    return max(math.ceil(count * (percent / 100) - 1), 0)


def _map_values(values: np.ndarray, low: float, high: float, gamma: float) -> np.ndarray:
    """Map values to uint8, `low` or less to 0 and `high` or more to 255."""
    if low == high:
        return (values > high) * np.uint8(255)
    mapped = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a range beyond that of float64
        np.clip(mapped, low, high, out=mapped)  # keeps NaN
        mapped -= low
        mapped /= high - low
    mapped[np.isnan(mapped)] = 0
    mapped **= gamma
    mapped *= 255
    return np.rint(mapped, out=mapped).astype(np.uint8)
