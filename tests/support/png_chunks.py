"""PNG files put together by hand, so that they can contain what no encoder writes."""

from __future__ import annotations

import struct
import zlib


def grey_png(
    width: int, height: int, *more: tuple[bytes, bytes], rows: bytes | None = None, interlaced: bool = False
) -> bytes:
    """Return an 8-bit grey PNG file.

    more: further chunks, name and content, after the header. rows: the pixels, each row after its filter byte; by
    default black ones, which do not fill a picture larger than 100 x 100.
    """
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    if rows is None:
        rows = bytes(min(height, 100) * (1 + min(width, 100)))
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, content) for name, content in chunks)


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
