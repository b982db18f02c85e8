"""Read the image list of a COCO annotation file and check that the picture files exist and have the stated size."""

from __future__ import annotations

import functools
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from config.coco_layout import Remedies
from config.errors import InputError, listed
from data.coco_checks import MAX_PIXELS, Box, Problems, Segmentation, UnusableError, as_integer
from data.images import ImageError, picture_size, read_image

_THREADS = 8  # they mostly wait for the disk or the network
_BATCH = 128  # pictures per task of a thread


class Annotation(NamedTuple):
    """One instance or crowd. A tuple, because a data set may have a million of them."""

    id: int  # in the file
    class_index: int  # 0-based, into CocoData.classes
    box: Box  # x1, y1, x2, y2 in pixels, within the picture; x2 and y2 exclusive
    segmentation: Segmentation
    bbox: Box | None = None  # x, y, width, height as stated in the file, which may differ from the mask's
    area: float | None = None  # in pixels, as stated in the file


@dataclass(frozen=True)
class Record:
    """One picture and its usable annotations.

    crowds: regions with several instances that were not separated (iscrowd = 1), as (number of instances before it in
    the file, crowd).
    """

    image_id: int
    file_name: str  # as in the file
    path: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...] = ()  # instances, without crowds
    crowds: tuple[tuple[int, Annotation], ...] = ()

    def in_file_order(self) -> list[tuple[Annotation, bool]]:
        """Return instances and crowds in the order of the file, as (annotation, is crowd)."""
        merged = [(annotation, False) for annotation in self.annotations]
        for place, crowd in reversed(self.crowds):
            merged.insert(place, (crowd, True))
        return merged


def fingerprint_of(records: Sequence[Record]) -> str:
    """Return a short hash of the pictures' names and sizes, and of the classes and boxes of their instances."""
    checksum = 0
    for record in records:
        picture = f"{record.file_name} {record.height} {record.width}".encode(errors="surrogatepass")
        boxes = [struct.pack("<i4d", one.class_index, *one.box) for one in record.annotations]
        checksum = zlib.crc32(b"".join([picture, *boxes]), checksum)
    return f"{checksum:08x}"


def read_record_image(record: Record, stretch: Sequence[float]) -> np.ndarray:
    """Read the picture of a record: uint8 [H, W, 3] RGB.

    stretch: `data.stretch` of the config.
    Raises InputError with the file name if it cannot be read or has another size than the annotations state.
    """
    image = read_image(record.path, stretch)
    if image.shape[:2] != (record.height, record.width):
        raise InputError(
            f"{record.path}: is {image.shape[1]} x {image.shape[0]} pixels and {record.width} x {record.height} in the "
            "annotations; correct one of them"
        )
    return image


def read_pictures(entries: list, folder: Path, problems: Problems) -> dict[int, Record | None]:
    """Return a record without annotations for each image id; None if the entry is not usable."""
    pictures: dict[int, Record | None] = {}
    for position, entry in enumerate(entries):
        number = as_integer(entry.get("id")) if type(entry) is dict else None
        try:
            if number is None:
                raise UnusableError("without an integer id")
            if pictures.setdefault(number) is not None:
                raise UnusableError("with the id of an earlier one")
            pictures[number] = _read_picture(number, entry, folder)
        except UnusableError as reason:
            problems.add("image", f"{reason}, left out", f"at index {position}" if number is None else str(number))
    return pictures


def _read_picture(number: int, entry: dict, folder: Path) -> Record:
    name, height, width = entry.get("file_name"), as_integer(entry.get("height")), as_integer(entry.get("width"))
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UnusableError("without a file_name")
    if not height or not width or min(height, width) < 0 or height * width > MAX_PIXELS:
        raise UnusableError("without a usable height and width")
    path = folder / name.replace("\\", "/")
    return Record(image_id=number, file_name=name, path=path, height=height, width=width)


def drop_unusable_files(
    pictures: dict[int, Record | None], folder: Path, problems: Problems, remedies: Remedies
) -> None:
    """Replace pictures that are missing, unreadable or of another size than stated by None.

    Only the beginning of each file is read, and all of it if its end looks cut off. Raises InputError if all pictures
    are missing.
    """
    _drop_missing(pictures, folder, problems, remedies)
    records = [record for record in pictures.values() if record]
    for record, problem in zip(records, _check_all(records)):
        if problem:
            what, details = problem
            pictures[record.image_id] = None
            problems.add("image", f"{what}, left out", f"{record.image_id} {record.file_name!r} ({details})")


def _drop_missing(pictures: dict[int, Record | None], folder: Path, problems: Problems, remedies: Remedies) -> None:
    listing = functools.cache(_file_names)
    records = [record for record in pictures.values() if record]
    missing = [record for record in records if os.path.normcase(record.path.name) not in listing(record.path.parent)]
    if missing and len(missing) == len(records):
        names = listed([repr(record.file_name) for record in missing])
        raise InputError(
            f"{problems.file}: none of its {len(missing)} pictures is in {folder} (looked for {names}); "
            f"{remedies.pictures}"
        )
    for record in missing:
        pictures[record.image_id] = None
        problems.add("image", f"not found in {folder}, left out", f"{record.image_id} {record.file_name!r}")


def _file_names(folder: Path) -> set[str]:
    """Return the names in a folder. One listing is much faster than 100,000 calls of `exists`."""
    try:
        with os.scandir(folder) as entries:
            return {os.path.normcase(entry.name) for entry in entries}
    except (OSError, ValueError):  # ValueError: the annotation file has a name that the system does not allow
        return set()


def _check_all(records: Sequence[Record]) -> list[tuple[str, str] | None]:
    """Return the problem of each record's file as (description, details), or None, in the order of the records."""
    batches = [records[first : first + _BATCH] for first in range(0, len(records), _BATCH)]
    results = []
    bar = tqdm(total=len(records), desc="opening pictures", unit="picture", delay=1, leave=False, disable=None)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with bar, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large sizes and about tags that are not used here
            for problems in pool.map(_check_batch, batches):
                results += problems
                bar.update(len(problems))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _check_batch(records: Sequence[Record]) -> list[tuple[str, str] | None]:
    return [_find_problem(record) for record in records]


def _find_problem(record: Record) -> tuple[str, str] | None:
    try:
        size = picture_size(record.path)
    except ImageError as error:
        return "that cannot be read", error.reason
    if size is not None and size != (record.height, record.width):
        height, width = size
        return "of another size than annotated", f"{width} x {height}, annotated {record.width} x {record.height}"
    return None
