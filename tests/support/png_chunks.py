"""PNG files put together by hand, so that they can say what no encoder writes."""

from __future__ import annotations

import struct
import zlib


def grey_png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    """The header of an 8-bit grey picture, further chunks (name, content) and pixels that do not fill a large one."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min(height, 100) * (1 + min(width, 100))))
    chunks = [(b"IHDR", header), *more, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
