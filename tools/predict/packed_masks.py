"""Masks of large pictures in an eighth of the memory: a hundred masks of 100 megapixels take 10 GB as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

MIN_PIXELS = 2**20  # of a mask that is packed; smaller ones are used more often than they fill the memory


class PackedMask:
    """A mask, bool [rows, columns], as one bit per pixel."""

    def __init__(self, mask: np.ndarray) -> None:
        self.shape: tuple[int, int] = mask.shape
        self._is_transposed = mask.strides[0] < mask.strides[1]  # in Fortran order, which `unpack` gives back
        self._bits = np.packbits(mask.T if self._is_transposed else mask, axis=1)

    def unpack(self) -> np.ndarray:
        """Return the mask as a new array."""
        mask = np.unpackbits(self._bits, axis=1, count=self.shape[0 if self._is_transposed else 1]).view(bool)
        return mask.T if self._is_transposed else mask


def pack_if_large(mask: np.ndarray) -> np.ndarray | PackedMask:
    """Return a copy of a mask, bool [rows, columns], in the order of its memory; a large one as bits."""
    return PackedMask(mask) if mask.size >= MIN_PIXELS else mask.copy(order="K")


class Crops:
    """A sequence of masks, bool [rows, columns] each; a packed one is unpacked at each access."""

    def __init__(self, masks: Iterable[np.ndarray | PackedMask]) -> None:
        self._masks = tuple(masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: int) -> np.ndarray:
        mask = self._masks[index]
        return mask.unpack() if isinstance(mask, PackedMask) else mask

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each mask, without unpacking any."""
        return [mask.shape for mask in self._masks]

    def select(self, indices: Iterable[int]) -> Crops:
        """Return the masks at these indices, as they are stored."""
        return Crops(self._masks[index] for index in indices)
