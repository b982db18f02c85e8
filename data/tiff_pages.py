"""Facts about TIFF files that OpenCV does not tell: the number of pages, and layouts that it reads wrongly."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from data.files import open_regular

_ORDERS = {b"II": "<", b"MM": ">"}
# By the version in the header (42: TIFF, 43: BigTIFF): where the header has the offset of the first page, the formats
# of a page's number of tags and of an offset, and the bytes of a tag.
_LAYOUTS = {42: (4, "H", "I", 12), 43: (8, "Q", "Q", 20)}

_BITS, _COMPRESSION, _MEANING, _CHANNELS, _LAYOUT, _FORMAT = 258, 259, 262, 277, 284, 339  # tags
_TILE_WIDTH = 322
_LOSSY, _SIGNED = (6, 7), 2  # kinds of JPEG; a format
_MOST_TAGS = 65535
_SHORT, _LONG = 3, 4  # types of their values


def misread_layout(data: bytes, *, as_stored: bool) -> str | None:
    """Return why the first page of a TIFF file, if `data` is one, must not be decoded by OpenCV; None if it may be.

    as_stored: for its values, not for a picture of 8 bits. OpenCV 4 and 5 return other values without an error where
    channels of more than 8 bits are stored apart, where white is stored as 0 in more than 8 bits, for grey values of
    more than 8 bits with alpha, for signed values, and for several bands that the file calls grey.
    """
    tags = _first_tags(io.BytesIO(data))
    if tags.get(_CHANNELS, 1) > 2 and tags.get(_MEANING) in (0, 1):
        return (
            f"TIFF of {tags[_CHANNELS]} bands that are not named as colours, of which OpenCV reads one; save it as RGB"
        )
    if tags.get(_FORMAT) == _SIGNED and tags.get(_BITS, 1) <= 16 and not as_stored:
        return "TIFF of signed values, which OpenCV reads wrongly; save it unsigned, or set data.stretch"
    if not tags or tags.get(_BITS, 1) <= 8:
        return None
    if tags.get(_CHANNELS, 1) > 1 and tags.get(_LAYOUT) == 2:
        return f"TIFF of {tags[_BITS]} bits with each channel apart, which OpenCV reads wrongly; save it interleaved"
    if tags.get(_CHANNELS) == 2 and as_stored:
        return f"TIFF with grey of {tags[_BITS]} bits and alpha, which OpenCV reads wrongly; save it without alpha"
    if tags.get(_MEANING) == 0:
        return f"TIFF of {tags[_BITS]} bits that stores white as 0, which OpenCV ignores; save it with black as 0"
    return None


def is_tiff(data: bytes) -> bool:
    return _layout_of(io.BytesIO(data)) is not None


def has_deep_grey_tiles(data: bytes) -> bool:
    """Return whether `data` is a TIFF file of grey values of 16 bits in tiles.

    OpenCV 5.0 reads its values right, but makes a wrong picture of 8 bits if its sides are no multiples of the tiles'.
    """
    tags = _first_tags(io.BytesIO(data))
    return _TILE_WIDTH in tags and tags.get(_BITS) == 16 and tags.get(_CHANNELS, 1) == 1


def stores_white_as_zero(data: bytes) -> bool:
    """Return whether `data` is a TIFF file with the meaning MinIsWhite, whose values OpenCV inverts up to 8 bits."""
    return _first_tags(io.BytesIO(data)).get(_MEANING) == 0


def is_lossy_tiff(data: bytes) -> bool:
    """Return whether `data` is a TIFF file whose values are compressed as a JPEG, which changes them."""
    return _first_tags(io.BytesIO(data)).get(_COMPRESSION) in _LOSSY


def _first_tags(stream: BinaryIO) -> dict[int, int]:
    """Return the first value of each tag of the first page that has whole numbers; empty for other files."""
    layout = _layout_of(stream)
    if not layout:
        return {}
    order, first, count_format, offset_format, tag_size = layout
    page = _read_number(stream, order + offset_format, first)
    start = page + struct.calcsize(order + count_format)
    tags = {}
    count = min(_read_number(stream, order + count_format, page), _MOST_TAGS)
    for entry in range(start, start + count * tag_size, tag_size):
        tag, kind = _read_number(stream, order + "H", entry), _read_number(stream, order + "H", entry + 2)
        if not kind:  # after the end of the file
            break
        if kind in (_SHORT, _LONG):
            value_format = order + ("H" if kind == _SHORT else "I")
            room = struct.calcsize(order + offset_format)
            place = entry + 4 + room
            if _read_number(stream, order + offset_format, entry + 4) * struct.calcsize(value_format) > room:
                place = _read_number(stream, order + offset_format, place)  # of a list of values
            tags[tag] = _read_number(stream, value_format, place)
    return tags


def _layout_of(stream: BinaryIO) -> tuple[str, int, str, str, int] | None:
    """Return the byte order and the rest of `_LAYOUTS` of a TIFF file; None for other files."""
    order = _ORDERS.get(stream.read(2))
    layout = _LAYOUTS.get(_read_number(stream, order + "H", 2)) if order else None
    return (order, *layout) if order and layout else None


def count_pages(path: str | Path) -> int:
    """Return the number of pages of a TIFF file, and 1 for other files. Pages after damage are not counted."""
    with suppress(OSError), open_regular(path) as stream:
        if layout := _layout_of(stream):
            return max(_count_pages(stream, *layout), 1)
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
