"""Instances from mask files: a picture of labels, with a value or colour per instance, or one file per instance."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.files import open_regular
from data.images import ORIENTATION, ImageError
from data.png_chunks import without_unused_chunks
from data.tiff_pages import count_pages, is_lossy_tiff, is_tiff, misread_layout, stores_white_as_zero
from tools.dataset.coco_writer import UnusableFileError

MANY_VALUES = 256  # more of them, where fewer than this share of neighbours is equal, are no labels
FEW_STEADY = 0.5
ZERO = np.iinfo(np.int64).min  # which no file has
CHANNELS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


@dataclass(frozen=True)
class LabelOptions:
    """How the values of a picture of labels are read.

    channel: the only one of the channels red, green, blue, alpha that counts; None: a colour is a value, and
    transparent pixels have none, unless all are transparent. Grey and index pictures have one channel in any case.
    background: the value without an instance; of a colour, of its red, green and blue.
    connectivity: 4 or 8: values are reused, an instance is a connected region of a value; 0: a value is an instance.
    """

    channel: int | None = None
    background: int = 0
    connectivity: int = 0


@dataclass(frozen=True)
class Masks:
    """The masks of a picture.

    masks: uint8 [H, W] each, with a pixel, made one after another; empty: the files without one; shared: the pixels in
    more than one mask; regions: separate ones of all masks of a picture of labels, 0 where each is an instance.
    """

    masks: Iterable[np.ndarray]
    empty: tuple[Path, ...] = ()
    shared: int = 0
    regions: int = 0


def read_values(path: Path, options: LabelOptions) -> np.ndarray:
    """Read a picture of labels: int64 [H, W], 0 without an instance, and ZERO for a label 0.

    The file may have 8, 16 or 32 bits, an index picture has its indices. Raises ImageError if it cannot be read, and
    UnusableFileError if it is a JPEG, or has several pages, no such channel, no such background, or values that are no
    whole numbers.
    """
    pixels, transparent = _read_pixels(path)
    if not np.issubdtype(pixels.dtype, np.integer) and not _are_whole(pixels):
        raise UnusableFileError(f"{path}: has values that are no whole numbers; save the labels as integers")
    if pixels.ndim == 3 and options.channel is None:
        red, green, blue = np.moveaxis(pixels[..., :3].astype(np.int64), -1, 0)
        values, background = (red << 32) + (green << 16) + blue, options.background * ((1 << 32) + (1 << 16) + 1)
        transparent = pixels[..., 3] == 0 if pixels.shape[2] == 4 else transparent
    else:
        if options.channel is not None and options.channel >= (3 if pixels.ndim == 2 else pixels.shape[2]):
            raise UnusableFileError(f"{path}: has no alpha; give another --channel")
        values = (pixels if pixels.ndim == 2 else pixels[..., options.channel]).astype(np.int64)
        background = options.background
    if transparent is not None and not transparent.all():  # else the alpha was never set
        values = np.where(transparent, background, values)
    if np.issubdtype(pixels.dtype, np.integer) and options.background > (most := np.iinfo(pixels.dtype).max):
        raise UnusableFileError(f"{path}: has values up to {most}, so none is --background {options.background}")
    return np.where(values == background, 0, np.where(values == 0, ZERO, values))


def _are_whole(pixels: np.ndarray) -> bool:
    """Return whether floating-point numbers are integers that int64 keeps; infinity is none."""
    return bool((np.abs(pixels) < 1 << 62).all() and np.array_equal(pixels, np.rint(pixels)))


def _read_pixels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the stored values: [H, W], or [H, W, 3 or 4] in the order red, green, blue, alpha.

    Of indices and grey values also the pixels that are transparent, bool [H, W], or None.

    Raises ImageError if the file cannot be read, and UnusableFileError for a JPEG and for several pages.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error
    if data.startswith(b"\xff\xd8") or is_lossy_tiff(data) or (data[8:12] == b"WEBP" and b"VP8L" not in data):
        what = "a JPEG or lossy compression, which does not keep the values of labels"
        raise UnusableFileError(f"{path}: {what}; save them as PNG or TIFF")
    if (pages := count_pages(path)) > 1:
        raise UnusableFileError(f"{path}: has {pages} pages; save one page with all labels")
    if reason := misread_layout(data, as_stored=True):
        raise ImageError(path, reason)
    if stores_white_as_zero(data):
        raise UnusableFileError(f"{path}: a TIFF that stores white as 0, so that 0 may be a label; save black as 0")
    indices, transparent, is_turned = None, None, False
    # Pillow's readers raise all kinds of exceptions for damaged files and for formats that only OpenCV reads.
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        is_turned = image.format == "PNG" and image.getexif().get(ORIENTATION, 1) != 1
        if image.mode == "P" or (image.mode == "L" and "transparency" in image.info):
            indices = np.asarray(image)  # OpenCV would return the colours of the indices
            transparent = np.isin(indices, _transparent_values(image.info.get("transparency")))
        if image.mode == "LA" and image.format == "TIFF":  # OpenCV would drop the alpha
            indices, transparent = np.asarray(image)[..., 0], np.asarray(image)[..., 1] == 0
    if is_turned:  # OpenCV turns pictures by it, and no stored values
        raise UnusableFileError(f"{path}: has an EXIF orientation; turn the labels themselves and save them without it")
    if indices is not None:
        return indices, transparent
    content = np.frombuffer(without_unused_chunks(data), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ImageError(path, "not a picture, damaged, or of a format that OpenCV cannot decode; use PNG or TIFF")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2]), None
    if pixels.shape[2] == 2:
        raise ImageError(path, "has two channels, which have no meaning here; save it with one, three or four")
    if is_tiff(data) and pixels.dtype == np.uint8 and pixels.shape[2] == 4 and (pixels[..., 3] < 255).any():
        raise UnusableFileError(
            f"{path}: an 8-bit TIFF with alpha, by which OpenCV multiplies its values; save it without alpha"
        )
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]], None


def _transparent_values(transparency: int | bytes | None) -> list[int]:
    """Return the transparent values or indices, from what Pillow gives: one of them, or the alpha of each."""
    if isinstance(transparency, bytes):
        return [index for index, alpha in enumerate(transparency) if not alpha]
    return [] if transparency is None else [transparency]


def check_orientation(path: Path, size: tuple[int, int]) -> None:
    """Raise UnusableFileError for a picture whose EXIF orientation keeps its size: height and width after it.

    Its masks may be of the turned picture, which `read_image` returns, or of the stored one, and no size tells which.
    """
    stored, orientation = size, 1
    with suppress(Exception), open_regular(path) as stream, Image.open(stream) as image:
        stored, orientation = (image.height, image.width), image.getexif().get(ORIENTATION, 1)
    if orientation in range(2, 9) and stored == size:
        raise UnusableFileError(
            f"{path}: has the EXIF orientation {orientation}, and masks may be of the turned or of the stored picture; "
            "turn it itself and save it without"
        )


def read_labels(paths: Sequence[Path], options: LabelOptions, size: tuple[int, int]) -> Masks:
    """Read the masks of the only one of `paths`, a picture of labels. size: height and width of the picture.

    Raises ImageError or UnusableFileError as `read_values`, and UnusableFileError for labels of another size and for
    what is no labels.
    """
    (path,) = paths
    values = read_values(path, options)
    _check_size(path, values, size)
    _check_labels(path, values)
    regions = 0 if options.connectivity else cv2.connectedComponents((values != 0).astype(np.uint8))[0] - 1
    return Masks(split_labels(values, options.connectivity), regions=regions)


def _check_labels(path: Path, values: np.ndarray) -> None:
    """Raise UnusableFileError for a picture in the place of labels: many values, and few neighbours of one value."""
    steady = np.mean(values[:, 1:] == values[:, :-1]) if values.shape[1] > 1 else 1.0
    if steady < FEW_STEADY and (count := len(np.unique(values))) > MANY_VALUES:
        raise UnusableFileError(
            f"{path}: has {count} values, most of them beside another one, as a picture has; give labels, or see "
            "--channel and --connected"
        )


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
