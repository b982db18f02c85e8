"""Check the chunks of a PNG file: libpng writes a line to the terminal for damage, which names no file."""

from __future__ import annotations

import zlib

_START = 8  # bytes of the signature
_FRAME = 12  # bytes of a chunk besides its content: length, kind and checksum
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_MAX_SIDE = 1_000_000  # pixels, the limit of libpng


def png_damage(data: bytes) -> str | None:
    """Return what is wrong with the chunks that a decoder needs; None if they are whole."""
    position, view = _START, memoryview(data)
    while position + _FRAME <= len(data):
        end = position + _FRAME + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if end > len(data):
            break
        if kind in _CRITICAL and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return "damaged PNG, a checksum in it is wrong"
        if kind == b"IHDR":
            sides = [int.from_bytes(data[start : start + 4], "big") for start in (position + 8, position + 12)]
            if not all(0 < side <= _MAX_SIDE for side in sides):
                return f"damaged PNG, {sides[0]} x {sides[1]} pixels"
        if kind == b"IEND":
            return None
        position = end
    return "truncated PNG, its end is missing"
