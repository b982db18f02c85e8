"""View the bytes of other programs' files as numpy arrays."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

BFLOAT16 = "bfloat16"


def map_file(path: Path) -> mmap.mmap:
    """Map a file that is not empty into memory without reading it. Arrays that view it keep the mapping alive."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def stored_bytes(kind: str, shape: Sequence[int]) -> int:
    """Return the number of bytes of an array of this type and shape in its file."""
    return math.prod(shape) * _stored_dtype(kind).itemsize


def view_array(
    buffer: bytes | bytearray | mmap.mmap, kind: str, shape: Sequence[int], *, offset: int = 0, byte_order: str = "<"
) -> np.ndarray:
    """View an array in a buffer. Only misaligned, bfloat16 and byte-swapped data is copied.

    kind: name of a numpy dtype, or "bfloat16", which becomes float32.
    offset: of the first element, in bytes.
    byte_order: of the file, "<" or ">".
    Returns an array of this shape in the machine's byte order; it may be read-only.
    Raises ValueError if the buffer is too short for the shape, before any memory is allocated.
    """
    stored = _stored_dtype(kind).newbyteorder(byte_order)
    end = offset + stored_bytes(kind, shape)
    if min(shape, default=0) < 0 or not 0 <= offset <= end <= len(buffer):
        raise ValueError(f"shape {list(shape)} of {kind} does not fit in its bytes")
    view = np.ndarray(shape, stored, buffer=buffer, offset=offset)
    array = np.require(view, stored.newbyteorder("="), ["ALIGNED"])
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == BFLOAT16 else array


def _stored_dtype(kind: str) -> np.dtype:
    return np.dtype("uint16" if kind == BFLOAT16 else kind)
