"""Find pictures that look the same: copies that were scaled, compressed again or made a little brighter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data.coco import Record
from data.images import ImageError, read_image
from tools.common.threads import ordered_map, worker_threads

THREADS = 4
_SIDE = 32  # pixels of the small picture
_FREQUENCIES = 8  # per direction; the hash has a bit for each
_MOST_BITS = 10  # that differ between copies; between other pictures it is 32 on average
_LEAST_CORRELATION = 0.9  # of the small pictures of copies
_ROWS = 512  # validation pictures that are compared at a time
_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


class Look(NamedTuple):
    """What is compared of a picture.

    bits: uint16 [4], its perceptual hash; pixels: float32 [_SIDE * _SIDE], the small grey picture with mean 0 and
    length 1.
    """

    bits: np.ndarray
    pixels: np.ndarray


def look_of(image: np.ndarray) -> Look | None:
    """Return the look of a picture, uint8 [H, W, 3] RGB; None if it is the same everywhere.

    The hash is pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): which of the
    lowest frequencies of the small picture's cosine transform are above their median.
    """
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float32) - small.mean(dtype=np.float32)
    length = float(np.linalg.norm(pixels))
    if length < _SIDE:  # a standard deviation of less than one grey level
        return None
    waves = cv2.dct(pixels)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    return Look(np.packbits(waves > np.median(waves)).view(np.uint16), pixels.ravel() / length)


def find_near_copies(
    first: Sequence[Record], second: Sequence[Record], stretch: tuple[float, ...] = ()
) -> list[tuple[Record, Record]]:
    """Return pairs of a record of `second` and the first record of `first` that looks the same.

    stretch: `data.stretch` of the config. All pictures are read; those that cannot be read are left out.
    """
    looks = _read_looks(chain(first, second), stretch, total=len(first) + len(second))
    ones = [(record, look) for record, look in zip(first, looks[: len(first)]) if look]
    others = [(record, look) for record, look in zip(second, looks[len(first) :]) if look]
    if not ones or not others:
        return []
    bits = np.stack([look.bits for _, look in ones])
    pairs = []
    for start in range(0, len(others), _ROWS):
        part = others[start : start + _ROWS]
        differing = _differing_bits(np.stack([look.bits for _, look in part]), bits)
        found = set()
        for row, column in np.argwhere(differing <= _MOST_BITS).tolist():
            (record, look), (other, other_look) = part[row], ones[column]
            if row not in found and float(look.pixels @ other_look.pixels) >= _LEAST_CORRELATION:
                found.add(row)
                pairs.append((record, other))
    return pairs


def _read_looks(records: Iterable[Record], stretch: tuple[float, ...], *, total: int) -> list[Look | None]:
    def read(record: Record) -> Look | None:
        try:
            return look_of(read_image(record.path, stretch))
        except ImageError:  # named by the check of the annotation file or by the training
            return None

    with worker_threads(THREADS) as pool:
        looks = ordered_map(pool, read, records, ahead=4 * THREADS)
        return list(tqdm(looks, total=total, unit="picture", desc="comparing pictures", disable=None))


def _differing_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return uint8 [n, m], the number of bits that differ between hashes, uint16 [n, 4] and [m, 4]."""
    counts = np.zeros((len(first), len(second)), np.uint8)
    for word in range(first.shape[1]):
        counts += _ONES[first[:, word, None] ^ second[None, :, word]]
    return counts
