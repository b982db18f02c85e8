"""The pictures that a COCO annotation file lists: which of them are there, can be read and have the size it says."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from config.errors import InputError, listed
from data.coco_checks import MAX_PIXELS, Box, Problems, Segmentation, UnusableError, as_integer
from data.images import ImageError, picture_size, read_image

_THREADS = 8  # that wait for a disk or a network
_BATCH = 128  # pictures that a thread takes at a time


class Annotation(NamedTuple):
    """One instance or crowd. A tuple, because there are a million of them."""

    id: int  # in the file
    class_index: int  # 0-based, into CocoData.classes
    box: Box  # x1, y1, x2, y2 in pixels, within the picture; x2 and y2 exclusive
    segmentation: Segmentation
    bbox: Box | None = None  # x, y, width, height as the file says them, which may not be those of the mask
    area: float | None = None  # in pixels, as the file says


@dataclass(frozen=True)
class Record:
    """One picture and what is usable of its annotations.

    crowds: regions with more of a class than was told apart, each behind the number of instances before it in the file.
    """

    image_id: int
    file_name: str  # as in the file
    path: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...] = ()  # instances; crowds are none
    crowds: tuple[tuple[int, Annotation], ...] = ()

    def in_file_order(self) -> list[tuple[Annotation, bool]]:
        """Instances and crowds in the order of the file, each with whether it is a crowd."""
        merged = [(annotation, False) for annotation in self.annotations]
        for place, crowd in reversed(self.crowds):
            merged.insert(place, (crowd, True))
        return merged


def read_record_image(record: Record) -> np.ndarray:
    """The picture of a record: uint8 [H, W, 3] RGB.

    Raises InputError with its name where it cannot be read or has another size than the annotations say.
    """
    image = read_image(record.path)
    if image.shape[:2] != (record.height, record.width):
        raise InputError(
            f"{record.path}: is {image.shape[1]} x {image.shape[0]} pixels and {record.width} x {record.height} in the "
            "annotations; correct one of them"
        )
    return image


def read_pictures(entries: list, folder: Path, problems: Problems) -> dict[int, Record | None]:
    """The usable entries of the list of images by id, without annotations; None for those with an id and not usable."""
    pictures: dict[int, Record | None] = {}
    for position, entry in enumerate(entries):
        number = as_integer(entry.get("id")) if type(entry) is dict else None
        try:
            if number is None:
                raise UnusableError("without a whole number as id, left out")
            if pictures.setdefault(number) is not None:
                raise UnusableError("with the id of an earlier one, left out")
            pictures[number] = _read_picture(number, entry, folder)
        except UnusableError as reason:
            problems.add("image", str(reason), f"at index {position}" if number is None else str(number))
    return pictures


def _read_picture(number: int, entry: dict, folder: Path) -> Record:
    name, height, width = entry.get("file_name"), as_integer(entry.get("height")), as_integer(entry.get("width"))
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UnusableError("without a file_name, left out")
    if not height or not width or min(height, width) < 0 or height * width > MAX_PIXELS:
        raise UnusableError("without a usable height and width, left out")
    path = folder / name.replace("\\", "/")
    return Record(image_id=number, file_name=name, path=path, height=height, width=width)


def drop_unusable_files(pictures: dict[int, Record | None], folder: Path, problems: Problems) -> None:
    """Put None for pictures that are not there, cannot be read or have another size than the file says.

    Only the beginning of each is read: one that is cut off is found by reading it whole. Raises InputError where none
    is there.
    """
    _drop_missing(pictures, folder, problems)
    records = [record for record in pictures.values() if record]
    for record, problem in zip(records, _check_all(records)):
        if problem:
            what, details = problem
            pictures[record.image_id] = None
            problems.add("image", f"{what}, left out", f"{record.image_id} {record.file_name!r} ({details})")


def _drop_missing(pictures: dict[int, Record | None], folder: Path, problems: Problems) -> None:
    listing = functools.cache(_file_names)
    records = [record for record in pictures.values() if record]
    missing = [record for record in records if os.path.normcase(record.path.name) not in listing(record.path.parent)]
    if missing and len(missing) == len(records):
        names = listed([repr(record.file_name) for record in missing])
        raise InputError(
            f"{problems.file}: none of its {len(missing)} pictures is in {folder} (looked for {names}); "
            "set train_pre_path, or val_pre_path for validation, to the folder of the pictures"
        )
    for record in missing:
        pictures[record.image_id] = None
        problems.add("image", f"not found in {folder}, left out", f"{record.image_id} {record.file_name!r}")


def _file_names(folder: Path) -> set[str]:
    """The names in a folder; one listing is much faster than a question for each of 100,000 files."""
    try:
        with os.scandir(folder) as entries:
            return {os.path.normcase(entry.name) for entry in entries}
    except (OSError, ValueError):  # ValueError: a name from the annotation file that no file can have
        return set()


def _check_all(records: Sequence[Record]) -> list[tuple[str, str] | None]:
    """What is wrong with the file of each record, in a few words and with details."""
    shares = [records[first : first + _BATCH] for first in range(0, len(records), _BATCH)]
    found = []
    bar = tqdm(total=len(records), desc="opening pictures", unit="picture", delay=1, leave=False, disable=None)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with bar, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about sizes that OpenCV reads and tags that nobody needs
            for problems in pool.map(_check_batch, shares):
                found += problems
                bar.update(len(problems))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


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
