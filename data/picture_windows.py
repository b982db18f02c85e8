"""Read parts of pictures: of large TIFF files without the rest, by tifffile."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Union

import cv2
import numpy as np

from data.deep_values import to_bytes
from data.files import as_path
from data.geometry import Window
from data.images import ImageError, read_image, read_stored_values
from data.stretch import Stretch, is_counted, measure_stretch

if TYPE_CHECKING:
    from tifffile import TiffPage

WHOLE = 2**25  # pixels; pictures up to this size are read as one array
OVERVIEW_SIDE = 4096  # most pixels of a side of the reduced picture
_BAND = 2**24  # pixels that are read at a time for it
_CACHE = 2**27  # bytes of decoded parts of a file that are kept
_CONTIGUOUS, _BLACK_IS_ZERO, _RGB, _YCBCR, _JPEG, _ORIENTATION = 1, 1, 2, 6, 7, 274


class Overview(NamedTuple):
    """A reduced picture, uint8 [h, w, 3] RGB; a pixel is the mean of factor x factor pixels."""

    image: np.ndarray
    factor: int


class Values(Protocol):
    """The stored values of a picture, of which slices of rows and columns can be read."""

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray: ...


class WholePicture:
    """A picture as one array, uint8 [H, W, 3] RGB. path: the file that it was read from, None for none."""

    def __init__(self, image: np.ndarray, path: Path | None = None) -> None:
        self._image, self._path = image, path
        self.size: tuple[int, int] = image.shape[:2]

    def read(self, window: Window) -> np.ndarray:
        """Return a part, uint8 [h, w, 3] RGB."""
        return self._image[window.top : window.bottom, window.left : window.right]

    def stored_values(self) -> Values:
        """Return the values in the file, of any dtype, [H, W] or [H, W, 3] RGB."""
        return self._image if self._path is None else read_stored_values(self._path)

    def overview(self) -> Overview:
        factor = _overview_factor(self.size)
        return Overview(_reduce(self._image, factor), factor)

    def close(self) -> None:
        """Do nothing: no file is open."""


class TiffWindows:
    """The first page of a TIFF file, of which parts are read. Threads may share it.

    stretch: `data.stretch` of a config; () for none. Integers of 8 and 16 bits are stretched as `read_image` does it;
    for other values, the percentiles are those of evenly spaced pixels. Raises ImageError if the file cannot be read.
    """

    def __init__(self, path: Path, page: TiffPage, stretch: Sequence[float]) -> None:
        self._path, self._page = path, page
        self._lock = threading.Lock()
        self._parts: OrderedDict[int, np.ndarray] = OrderedDict()
        self._are_rows = page.is_contiguous
        self._part_size: tuple[int, int] = page.chunks[:2]
        self.size: tuple[int, int] = page.imagelength, page.imagewidth
        self._stretch: Stretch | None = None
        self._overview: Overview | None = None
        if stretch:
            self._stretch = measure_stretch(self._sampled_bands(), stretch)

    def read(self, window: Window) -> np.ndarray:
        """Return a part, uint8 [h, w, 3] RGB."""
        return self._as_bytes(self[window.top : window.bottom, window.left : window.right])

    def stored_values(self) -> Values:
        return self

    def overview(self) -> Overview:
        """Return the reduced picture. The whole file is read."""
        if self._overview is None:
            factor = _overview_factor(self.size)
            self._overview = Overview(
                np.concatenate([_reduce(self._as_bytes(band), factor) for band in self._bands(factor)]), factor
            )
        return self._overview

    def close(self) -> None:
        """Close the file."""
        self._page.parent.close()

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """Return the stored values of a part: [h, w] for grey, else [h, w, 3] RGB."""
        (top, bottom, _), (left, right, _) = (of_axis.indices(side) for of_axis, side in zip(part, self.size))
        if self._are_rows:
            return self._read_rows(top, bottom)[:, left:right]
        rows, columns = self._part_size
        parts_per_row = -(-self.size[1] // columns)
        shape = bottom - top, right - left
        values = np.zeros(shape if self._page.samplesperpixel == 1 else (*shape, 3), self._page.dtype)
        for row, column in product(
            range(top // rows, -(-bottom // rows)), range(left // columns, -(-right // columns))
        ):
            decoded = self._decode(row * parts_per_row + column)
            y, x = row * rows, column * columns
            inside = decoded[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
            y, x = max(y - top, 0), max(x - left, 0)
            values[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return values

    def _read_rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows of a file whose values are stored one after the other."""
        page = self._page
        shape = self.size[1:] if page.samplesperpixel == 1 else (self.size[1], 3)
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        row = math.prod(shape) * dtype.itemsize
        content = self._read_bytes(page.dataoffsets[0] + top * row, (bottom - top) * row)
        return np.frombuffer(content, dtype).reshape(-1, *shape).astype(page.dtype, copy=False)

    def _decode(self, index: int) -> np.ndarray:
        """Return a tile or strip of the file, decoded; the last ones are kept, because windows overlap."""
        with self._lock:
            if index in self._parts:
                self._parts.move_to_end(index)
                return self._parts[index]
        page = self._page
        content = self._read_bytes(page.dataoffsets[index], page.databytecounts[index])
        try:
            decoded = page.decode(content, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:  # its codecs raise all kinds of exceptions
            raise ImageError(self._path, f"damaged TIFF ({error}); copy or save it again") from error
        if decoded is None:  # a part that is not stored, which means zeros
            decoded = np.zeros((1, *self._part_size, page.samplesperpixel), page.dtype)
        values = decoded[0, ..., 0] if page.samplesperpixel == 1 else decoded[0]
        with self._lock:
            self._parts[index] = values
            while sum(part.nbytes for part in self._parts.values()) > _CACHE and len(self._parts) > 1:
                self._parts.popitem(last=False)
        return values

    def _read_bytes(self, offset: int, count: int) -> bytes:
        with self._lock:
            stream = self._page.parent.filehandle
            stream.seek(offset)
            content = stream.read(count)
        if len(content) < count:
            raise ImageError(self._path, "truncated TIFF; copy or download it again")
        return content

    def _bands(self, multiple: int = 1) -> Iterator[np.ndarray]:
        """Yield the stored values of all rows in bands, each of a multiple of this number of rows but the last."""
        rows = max(_BAND // self.size[1] // multiple, 1) * multiple
        for top in range(0, self.size[0], rows):
            yield self[top : top + rows, :]

    def _sampled_bands(self) -> Iterator[np.ndarray]:
        """Yield the values of which percentiles are taken."""
        step = 1 if is_counted(self._page.dtype) else _overview_factor(self.size)
        return (band[::step, ::step] for band in self._bands(step))

    def _as_bytes(self, values: np.ndarray) -> np.ndarray:
        if self._stretch:
            return self._stretch.apply(values)
        if values.dtype == np.uint16:
            values = to_bytes(values)
        return cv2.cvtColor(values, cv2.COLOR_GRAY2RGB) if values.ndim == 2 else np.ascontiguousarray(values)


PictureWindows = Union[WholePicture, TiffWindows]


def open_windows(path: str | Path, stretch: Sequence[float] = (), *, whole: int = WHOLE) -> PictureWindows:
    """Open a picture to read parts of it.

    stretch: as of `read_image`, whose pixels the parts have. whole: pictures of at most this number of pixels are read
    as one array, as are those that are not TIFF files of one or three channels of 8 or 16 bits (with `stretch`, of any
    number), or if tifffile is missing. Raises ImageError as `read_image` does.
    """
    path = as_path(path)
    page = _large_page(path, stretch, whole) if find_spec("tifffile") else None
    return WholePicture(read_image(path, stretch), path) if page is None else TiffWindows(path, page, stretch)


def _large_page(path: Path, stretch: Sequence[float], whole: int) -> TiffPage | None:
    """Return the first page of a large TIFF file that `TiffWindows` can read; None for others."""
    from tifffile import TiffFile

    try:
        file = TiffFile(path)
    except Exception:  # no TIFF file, or a damaged one, which `read_image` describes
        return None
    page = file.pages[0]
    if page.imagelength * page.imagewidth > whole and _is_plain(page, any_depth=bool(stretch)):
        return page
    file.close()
    return None


def _is_plain(page: TiffPage, *, any_depth: bool) -> bool:
    """Return whether the values of a page are a picture as OpenCV would read it, without special treatment."""
    meanings = {1: (_BLACK_IS_ZERO,), 3: (_RGB, _YCBCR) if page.compression == _JPEG else (_RGB,)}
    dtype = page.dtype
    return (
        page.planarconfig == _CONTIGUOUS
        and page.imagedepth == 1
        and page.photometric in meanings.get(page.samplesperpixel, ())
        and page.tags.valueof(_ORIENTATION, 1) == 1
        and dtype is not None
        and page.bitspersample == 8 * dtype.itemsize
        and (dtype.kind in "uif" if any_depth else dtype in (np.uint8, np.uint16))
    )


def _overview_factor(size: tuple[int, int]) -> int:
    return -(-max(size) // OVERVIEW_SIDE)


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of blocks of a picture, uint8 [H, W, 3]; at the end the last pixels are repeated."""
    if factor == 1:
        return image
    bottom, right = (-side % factor for side in image.shape[:2])
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    size = padded.shape[1] // factor, padded.shape[0] // factor
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
