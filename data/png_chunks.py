"""Read the chunks of a PNG file: libpng writes lines to the terminal that name no file, for damage and for remarks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FRAME = 12  # bytes of a chunk besides its content: length, kind and checksum
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# Transparency, orientation, and the frames of an animation.
_USED = (*_CRITICAL, b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_MAX_SIDE = 1_000_000  # pixels, the limit of libpng


def is_png(data: bytes) -> bool:
    return data.startswith(_SIGNATURE)


def png_damage(data: bytes) -> str | None:
    """Return what is wrong with the chunks that a decoder needs; None if they are whole."""
    view = memoryview(data)
    for kind, start, end in _chunks(data):
        if kind in _CRITICAL and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return "damaged PNG, a checksum in it is wrong"
        if kind == b"IHDR":
            sides = [int.from_bytes(data[place : place + 4], "big") for place in (start + 8, start + 12)]
            if not all(0 < side <= _MAX_SIDE for side in sides):
                return f"damaged PNG, {sides[0]} x {sides[1]} pixels"
        if kind == b"IEND":
            return None
    return "truncated PNG, its end is missing"


def without_unused_chunks(data: bytes) -> bytes:
    """Return a whole PNG without colour profiles, times, texts and others that do not change what OpenCV decodes.

    libpng writes a warning for each of them that is not as it should be, and many programs write such profiles. Other
    files stay as they are.
    """
    chunks = list(_chunks(data)) if is_png(data) else []
    if all(kind in _USED for kind, _, _ in chunks):
        return data
    view = memoryview(data)
    return b"".join([_SIGNATURE, *(view[start:end] for kind, start, end in chunks if kind in _USED)])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the chunks that are not cut off."""
    start = len(_SIGNATURE)
    while start + _FRAME <= len(data):
        end = start + _FRAME + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield data[start + 4 : start + 8], start, end
        start = end
