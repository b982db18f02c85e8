"""Count the pages of TIFF files."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from data.files import open_regular

_ORDERS = {b"II": "<", b"MM": ">"}
# By the version in the header (42: TIFF, 43: BigTIFF): where the header has the offset of the first page, the formats
# of a page's number of tags and of an offset, and the bytes of a tag.
_LAYOUTS = {42: (4, "H", "I", 12), 43: (8, "Q", "Q", 20)}


def count_pages(path: str | Path) -> int:
    """Return the number of pages of a TIFF file, and 1 for other files. Pages after damage are not counted."""
    with suppress(OSError), open_regular(path) as stream:
        order = _ORDERS.get(stream.read(2))
        layout = _LAYOUTS.get(_read_number(stream, order + "H", 2)) if order else None
        if order and layout:
            return max(_count_pages(stream, order, *layout), 1)
    return 1


def _count_pages(stream: BinaryIO, order: str, first: int, count_format: str, offset_format: str, tag_size: int) -> int:
    """Follow the chain of pages: each ends with the offset of the next one, 0 after the last."""
    pages: set[int] = set()  # their offsets; damage may lead to one that was counted
    offset = _read_number(stream, order + offset_format, first)
    while offset and offset not in pages and (tags := _read_number(stream, order + count_format, offset)):
        pages.add(offset)
        end = offset + struct.calcsize(order + count_format) + tags * tag_size
        offset = _read_number(stream, order + offset_format, end)
    return len(pages)


def _read_number(stream: BinaryIO, number_format: str, position: int) -> int:
    """Return the number at a position of a file, 0 after its end."""
    if position >= 2**63:  # in damaged files; `seek` would raise an error
        return 0
    stream.seek(position)
    content = stream.read(struct.calcsize(number_format))
    return struct.unpack(number_format, content)[0] if len(content) == struct.calcsize(number_format) else 0
