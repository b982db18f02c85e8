"""Instances from mask files: a picture of labels, with a value or colour per instance, or one file per instance."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.files import open_regular
from data.images import ImageError
from data.tiff_pages import count_pages
from tools.dataset.coco_writer import UnusableFileError

CHANNELS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


@dataclass(frozen=True)
class LabelOptions:
    """How the values of a picture of labels are read.

    channel: the only one of the channels red, green, blue, alpha that counts; None: a colour is a value, alpha ignored.
    Grey and index pictures have one channel in any case.
    background: the value without an instance; of a colour, of its red, green and blue.
    connectivity: 4 or 8: values are reused, an instance is a connected region of a value; 0: a value is an instance.
    """

    channel: int | None = None
    background: int = 0
    connectivity: int = 0


@dataclass(frozen=True)
class Masks:
    """The masks of a picture.

    masks: uint8 [H, W] each, with a pixel; empty: the files without one; shared: the pixels in more than one mask.
    """

    masks: Sequence[np.ndarray]
    empty: tuple[Path, ...] = ()
    shared: int = 0


def read_values(path: Path, options: LabelOptions) -> np.ndarray:
    """Read a picture of labels: int64 [H, W], 0 without an instance.

    The file may have 8, 16 or 32 bits, an index picture has its indices. Raises ImageError if it cannot be read, and
    UnusableFileError if it is a JPEG, or has several pages, no such channel, no such background, or values that are no
    whole numbers.
    """
    pixels = _read_pixels(path)
    if not np.issubdtype(pixels.dtype, np.integer) and not np.array_equal(pixels, np.rint(pixels)):
        raise UnusableFileError(f"{path}: has values that are no whole numbers; save the labels as integers")
    if pixels.ndim == 3 and options.channel is None:
        red, green, blue = np.moveaxis(pixels[..., :3].astype(np.int64), -1, 0)
        values, background = (red << 32) + (green << 16) + blue, options.background * ((1 << 32) + (1 << 16) + 1)
    else:
        if pixels.ndim == 3 and options.channel >= pixels.shape[2]:
            raise UnusableFileError(f"{path}: has no alpha; give another --channel")
        values = (pixels if pixels.ndim == 2 else pixels[..., options.channel]).astype(np.int64)
        background = options.background
    if np.issubdtype(pixels.dtype, np.integer) and options.background > (most := np.iinfo(pixels.dtype).max):
        raise UnusableFileError(f"{path}: has values up to {most}, so none is --background {options.background}")
    return np.where(values == background, 0, np.where(values == 0, -1, values))


def _read_pixels(path: Path) -> np.ndarray:
    """Return the stored values: [H, W], or [H, W, 3 or 4] in the order red, green, blue, alpha.

    Raises ImageError if the file cannot be read, and UnusableFileError for a JPEG and for several pages.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error
    if data.startswith(b"\xff\xd8"):
        raise UnusableFileError(f"{path}: a JPEG, which does not keep the values of labels; save them as PNG or TIFF")
    if (pages := count_pages(path)) > 1:
        raise UnusableFileError(f"{path}: has {pages} pages; save one page with all labels")
    # Pillow's readers raise all kinds of exceptions for damaged files and for formats that only OpenCV reads.
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        if image.mode == "P":  # OpenCV would return the colours of the indices
            return np.asarray(image)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ImageError(path, "not a picture, damaged, or of a format that OpenCV cannot decode; use PNG or TIFF")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    if pixels.shape[2] == 2:
        raise ImageError(path, "has two channels, which have no meaning here; save it with one, three or four")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def read_labels(paths: Sequence[Path], options: LabelOptions, size: tuple[int, int]) -> Masks:
    """Read the masks of the only one of `paths`, a picture of labels. size: height and width of the picture.

    Raises ImageError or UnusableFileError as `read_values`, and UnusableFileError for labels of another size.
    """
    (path,) = paths
    values = read_values(path, options)
    _check_size(path, values, size)
    return Masks(list(split_labels(values, options.connectivity)))


def split_labels(values: np.ndarray, connectivity: int) -> Iterator[np.ndarray]:
    """Yield the mask of each instance, uint8 [H, W], in the order of the values and then of the regions.

    values: of `read_values`; connectivity: of `LabelOptions`.
    """
    flat = values.ravel()
    places = np.flatnonzero(flat)
    if not places.size:
        return
    places = places[np.argsort(flat[places], kind="stable")]
    for of_value in np.split(places, np.flatnonzero(np.diff(flat[places])) + 1):
        rows, columns = np.unravel_index(of_value, values.shape)
        if not connectivity:
            yield _mask_of(values.shape, rows, columns)
            continue
        top, left = rows.min(), columns.min()
        window = np.zeros((rows.max() - top + 1, columns.max() - left + 1), np.uint8)
        window[rows - top, columns - left] = 1
        count, regions = cv2.connectedComponents(window, connectivity=connectivity)
        for region in range(1, count):
            inside = np.nonzero(regions == region)
            yield _mask_of(values.shape, inside[0] + top, inside[1] + left)


def _mask_of(shape: tuple[int, ...], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, np.uint8, order="F")  # the order of COCO's run-length encoding
    mask[rows, columns] = 1
    return mask


def read_instance_files(paths: Sequence[Path], options: LabelOptions, size: tuple[int, int]) -> Masks:
    """Read one mask per file; all values except the background are inside. size: height and width of the picture.

    Raises ImageError or UnusableFileError as `read_values`, and UnusableFileError for a mask of another size.
    """
    masks, empty, layers = [], [], np.zeros(size, np.int64)
    for path in paths:
        values = read_values(path, options)
        _check_size(path, values, size)
        mask = np.asfortranarray(values != 0, dtype=np.uint8)
        if mask.any():
            masks.append(mask)
            layers += mask
        else:
            empty.append(path)
    return Masks(masks, tuple(empty), int((layers > 1).sum()))


def _check_size(path: Path, values: np.ndarray, size: tuple[int, int]) -> None:
    """Raise UnusableFileError if a mask has not the size, height and width, of its picture."""
    if values.shape != size:
        height, width = values.shape
        raise UnusableFileError(
            f"{path}: has {width}x{height} pixels, but its picture has {size[1]}x{size[0]}; save both in one size"
        )
