"""Find pictures that look the same: copies that were scaled, compressed again or made a little brighter."""

from __future__ import annotations

from collections.abc import Sequence
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
_MAX_BITS = 10  # that differ between copies; between other pictures it is 32 on average
_MIN_CORRELATION = 0.9  # of the small pictures of copies
_BLOCK = 512  # pictures that are compared at a time
_BIT_COUNTS = np.array([bin(word).count("1") for word in range(1 << 16)], np.uint8)


class PictureHash(NamedTuple):
    """The values of a picture that are compared with those of others.

    bits: uint16 [4], the perceptual hash. pixels: float32 [_SIDE * _SIDE], the small grey picture with mean 0 and
    length 1.
    """

    bits: np.ndarray
    pixels: np.ndarray


def hash_picture(image: np.ndarray) -> PictureHash | None:
    """Return the hash of a picture, uint8 [H, W, 3] RGB; None if all of it has one colour.

    The bits are pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): which of the
    lowest frequencies of the small picture's cosine transform are above their median.
    """
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float32) - small.mean(dtype=np.float32)
    length = float(np.linalg.norm(pixels))
    if length < _SIDE:  # a standard deviation of less than one grey level
        return None
    frequencies = cv2.dct(pixels)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    return PictureHash(np.packbits(frequencies > np.median(frequencies)).view(np.uint16), pixels.ravel() / length)


def find_near_copies(
    first: Sequence[Record], second: Sequence[Record], stretch: tuple[float, ...] = ()
) -> list[tuple[Record, Record]]:
    """Return pairs of a record of `second` and the first record of `first` that looks the same.

    stretch: `data.stretch` of the config. All pictures are read; those that cannot be read are left out.
    """
    hashes = _hash_pictures([*first, *second], stretch)
    known = [(record, hashed) for record, hashed in zip(first, hashes[: len(first)]) if hashed]
    compared = [(record, hashed) for record, hashed in zip(second, hashes[len(first) :]) if hashed]
    if not known:
        return []
    known_bits = np.stack([hashed.bits for _, hashed in known])
    pairs = []
    for start in range(0, len(compared), _BLOCK):
        block = compared[start : start + _BLOCK]
        distances = _count_differing_bits(np.stack([hashed.bits for _, hashed in block]), known_bits)
        for (record, hashed), row in zip(block, distances):
            candidates = (known[column] for column in np.flatnonzero(row <= _MAX_BITS))
            copies = (other for other, other_hash in candidates if _correlation(hashed, other_hash) >= _MIN_CORRELATION)
            if copy := next(copies, None):
                pairs.append((record, copy))
    return pairs


def _hash_pictures(records: Sequence[Record], stretch: tuple[float, ...]) -> list[PictureHash | None]:
    def read(record: Record) -> PictureHash | None:
        try:
            return hash_picture(read_image(record.path, stretch))
        except ImageError:  # named when the picture is trained or evaluated on
            return None

    with worker_threads(THREADS) as pool:
        hashes = ordered_map(pool, read, records, ahead=4 * THREADS)
        return list(tqdm(hashes, total=len(records), unit="picture", desc="comparing pictures", disable=None))


def _correlation(first: PictureHash, second: PictureHash) -> float:
    return float(first.pixels @ second.pixels)


def _count_differing_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return uint8 [n, m], the number of bits that differ between hashes, uint16 [n, 4] and [m, 4]."""
    counts = np.zeros((len(first), len(second)), np.uint8)
    for word in range(first.shape[1]):
        counts += _BIT_COUNTS[first[:, word, None] ^ second[None, :, word]]
    return counts
