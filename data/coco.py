"""COCO annotation files: read, checked entry by entry, and turned into records to train on or to evaluate.

    train = read_coco("annotations/train.json", "train")
    print(train.problems)
    mask = decode_mask(annotation, record.height, record.width)  # for an annotation of a record in train.records
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from config.errors import InputError
from data.class_lists import ClassList
from data.coco_checks import (
    MAX_PIXELS,
    Box,
    Problems,
    Segmentation,
    UnusableError,
    compressed_runs,
    pack_polygons,
    to_rle,
    usable_box,
    usable_segmentation,
    whole_number,
)
from data.samples import MaskWindow

SHOWN = 5  # names listed in an error message


class Annotation(NamedTuple):
    """One instance. A tuple, because there are a million of them."""

    id: int  # in the file
    class_index: int  # 0-based, into CocoData.classes
    box: Box  # x1, y1, x2, y2 in pixels, within the picture; x2 and y2 exclusive
    segmentation: Segmentation


@dataclass(frozen=True)
class Record:
    """One picture and its usable instances; crowds are none."""

    image_id: int
    file_name: str  # as in the file
    path: Path
    height: int
    width: int
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class CocoData:
    """What is usable in one annotation file."""

    records: tuple[Record, ...]  # in the order of the file
    classes: ClassList
    problems: Problems
    pictures: int  # usable ones, with and without instances
    instances: int  # usable ones
    crowds: int  # left out
    empty: int  # of the pictures those without an instance


def read_coco(
    annotations: str | Path,
    images: str | Path,
    *,
    classes: ClassList | None = None,
    classes_from: str = "the class list",
    keep_empty: bool = False,
    check_files: bool = True,
) -> CocoData:
    """Read a COCO instance annotation file; what is wrong with single entries is counted and they are left out.

    images: the folder that the file names of the pictures start from. An absolute name is taken as it is, a backslash
    as a slash.
    classes: which class each category id is, by default the file's own categories in the order of their ids.
    classes_from: what to call the origin of `classes` in a message.
    keep_empty: records of pictures without instances too. A file without annotations is one of such pictures.
    check_files: leave out pictures that are not there. Whether they can be read is not looked at.

    Raises InputError where the file is not of this form, has categories that `classes` has not, or nothing remains.
    """
    content, problems = _read_json(Path(annotations)), Problems(Path(annotations))
    own = _read_classes(content["categories"], problems)
    if classes is None:
        classes = own
    else:
        check_same_classes(classes, own, first_name=classes_from, second_name=str(annotations))
    pictures = _read_images(content["images"], Path(images), problems)
    if check_files:
        _drop_missing(pictures, Path(images), problems)
    own_ids = set(own.ids)
    class_of = {category: index for index, category in enumerate(classes.ids) if category in own_ids}
    found, crowds = _read_annotations(content["annotations"], pictures, class_of, problems)
    usable = [replace(pictures[image_id], annotations=tuple(found[image_id])) for image_id in found]
    records = tuple([record for record in usable if record.annotations or keep_empty])
    if not records:
        raise _useless(problems, "no picture with a usable annotation" if usable else "no usable picture")
    return CocoData(
        records=records,
        classes=classes,
        problems=problems,
        pictures=len(usable),
        instances=sum(len(record.annotations) for record in usable),
        crowds=crowds,
        empty=sum(not record.annotations for record in usable),
    )


def check_same_classes(first: ClassList, second: ClassList, *, first_name: str, second_name: str) -> None:
    """Raise InputError where `second` has category ids that `first` has not, or that have other names there."""
    names = dict(zip(first.ids, first.names))
    remedy = "use annotation files with the same categories, or set classes_path to the list you want to train on"
    unknown = [f"{number} {name!r}" for number, name in zip(second.ids, second.names) if number not in names]
    if unknown:
        ids, are = ("category id", "is") if len(unknown) == 1 else ("category ids", "are")
        raise InputError(
            f"{len(unknown)} {ids} of {second_name} {are} not in {first_name}: {_shortened(unknown)}; {remedy}"
        )
    renamed = [
        f"{number} is {name!r} and was {names[number]!r}"
        for number, name in zip(second.ids, second.names)
        if name.strip().casefold() != names[number].strip().casefold()
    ]
    if renamed:
        raise InputError(f"{second_name} has other category names than {first_name}: {_shortened(renamed)}; {remedy}")


def decode_mask(annotation: Annotation, height: int, width: int) -> MaskWindow:
    """The pixels of an annotation in its picture, as pycocotools decodes them.

    Very small or thin polygons may cover no pixel: the window is 0 x 0 then.
    """
    rle = to_rle(annotation.segmentation, height, width)
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    # Only the columns of the box are drawn: the runs go down column by column, background first.
    ends = np.clip(compressed_runs(rle["counts"].decode("ascii")).cumsum() - x * height, 0, w * height)
    inside = np.arange(ends.size) & 1
    pixels = np.repeat(inside.astype(np.uint8), np.diff(ends, prepend=0)).reshape(w, height).T
    return MaskWindow.from_full(pixels[y : y + h], top=y, left=x)


def _read_json(path: Path) -> dict:
    """The three lists of an annotation file; what else it says is dropped. Polygons are arrays already."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            content = json.load(stream, object_hook=pack_polygons)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); set train_path or val_path to an annotation file in COCO form"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON or cut off ({error}); make or copy it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not an annotation file in COCO form, which is an object with images and categories")
    lists = {"images": content.get("images"), "categories": content.get("categories")}
    lists["annotations"] = content.get("annotations", [])  # the files of COCO's test pictures have none
    for name, value in lists.items():
        if not isinstance(value, list):
            raise InputError(f"{path}: has no list of {name}; give an annotation file in COCO form")
    return lists


def _read_classes(entries: list, problems: Problems) -> ClassList:
    names: dict[int, str] = {}
    for position, entry in enumerate(entries):
        number, name = (whole_number(entry.get("id")), entry.get("name")) if type(entry) is dict else (None, None)
        if number is None or not isinstance(name, str) or not name.strip():
            problems.add("category", "without an id or a name, left out", _called(number, position))
        elif names.get(number, name) != name:
            raise InputError(
                f"{problems.file}: the category id {number} is both {names[number]!r} and {name!r}; give each its own"
            )
        elif number in names:
            problems.add("category", "with the id and name of an earlier one, left out", str(number))
        else:
            names[number] = name
    if not names:
        raise _useless(problems, "no usable category")
    classes = ClassList(names=tuple(names[number] for number in sorted(names)), ids=tuple(sorted(names)))
    first = {name: number for number, name in reversed(list(zip(classes.ids, classes.names)))}
    for number, name in zip(classes.ids, classes.names):
        if first[name] != number:
            problems.add("category", "with the name of an earlier one, kept", f"{number} {name!r}")
    return classes


def _read_images(entries: list, folder: Path, problems: Problems) -> dict[int, Record | None]:
    """The usable pictures by id, without annotations; None for those that are known and not usable."""
    pictures: dict[int, Record | None] = {}
    for position, entry in enumerate(entries):
        number = whole_number(entry.get("id")) if type(entry) is dict else None
        try:
            if number is None:
                raise UnusableError("without a whole number as id, left out")
            if pictures.setdefault(number) is not None:
                raise UnusableError("with the id of an earlier one, left out")
            pictures[number] = _read_image(number, entry, folder)
        except UnusableError as reason:
            problems.add("image", str(reason), _called(number, position))
    return pictures


def _read_image(number: int, entry: dict, folder: Path) -> Record:
    name, height, width = entry.get("file_name"), whole_number(entry.get("height")), whole_number(entry.get("width"))
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UnusableError("without a file_name, left out")
    if not height or not width or min(height, width) < 0 or height * width > MAX_PIXELS:
        raise UnusableError("without a usable height and width, left out")
    path = folder / name.replace("\\", "/")
    return Record(image_id=number, file_name=name, path=path, height=height, width=width)


def _drop_missing(pictures: dict[int, Record | None], folder: Path, problems: Problems) -> None:
    """Put None for pictures that are not there. Raises InputError where none is."""
    listing = functools.cache(_file_names)
    records = [record for record in pictures.values() if record]
    missing = [record for record in records if os.path.normcase(record.path.name) not in listing(record.path.parent)]
    if missing and len(missing) == len(records):
        names = _shortened([repr(record.file_name) for record in missing])
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


def _read_annotations(
    entries: list, pictures: dict[int, Record | None], class_of: dict[int, int], problems: Problems
) -> tuple[dict[int, list[Annotation]], int]:
    """The usable annotations of each usable picture by its id, and the number of crowds."""
    found: dict[int, list[Annotation]] = {number: [] for number, record in pictures.items() if record}
    ids: set[int] = set()
    crowds = 0
    bar = tqdm(entries, desc=problems.file.name, unit="annotation", unit_scale=True, delay=1, leave=False, disable=None)
    for position, entry in enumerate(bar):
        number = whole_number(entry.get("id")) if type(entry) is dict else None
        try:
            record = _picture_of(entry, number, pictures)
            if record is None:
                continue
            if _is_crowd(entry):
                crowds += 1
                continue
            annotation = _read_annotation(number, entry, record, class_of)
            if number in ids:
                _check_not_repeated(annotation, found[record.image_id])
                problems.add("annotation", "with the id of another one, kept", str(number))
        except UnusableError as reason:
            problems.add("annotation", str(reason), _called(number, position))
            continue
        ids.add(number)
        found[record.image_id].append(annotation)
        if isinstance(annotation.segmentation, tuple) and len(annotation.segmentation) < len(entry["segmentation"]):
            problems.add("annotation", "kept without those of its polygons that are damaged", str(number))
    return found, crowds


def _picture_of(entry: object, number: int | None, pictures: dict[int, Record | None]) -> Record | None:
    """The picture of an annotation; None where that is left out, and the annotation with it."""
    if number is None:
        raise UnusableError("without a whole number as id, left out")
    image_id = whole_number(entry.get("image_id"))
    if image_id not in pictures:
        raise UnusableError("of an unknown image, left out")
    return pictures[image_id]


def _is_crowd(entry: dict) -> bool:
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UnusableError("with an iscrowd that is neither 0 nor 1, left out")
    return bool(crowd)


def _read_annotation(number: int, entry: dict, record: Record, class_of: dict[int, int]) -> Annotation:
    """An annotation that is no crowd."""
    class_index = class_of.get(whole_number(entry.get("category_id")))
    if class_index is None:
        raise UnusableError("of an unknown category, left out")
    height, width = record.height, record.width
    segmentation = usable_segmentation(entry.get("segmentation"), height=height, width=width)
    box = usable_box(entry.get("bbox"), segmentation, height=height, width=width)
    return Annotation(number, class_index, box, segmentation)


def _check_not_repeated(annotation: Annotation, others: list[Annotation]) -> None:
    """An id may be used again in another picture or for another box; the same instance twice is one too many."""
    if any(other[:3] == annotation[:3] for other in others):
        raise UnusableError("with the id, category and bbox of an earlier one, left out")


def _useless(problems: Problems, what: str) -> InputError:
    lines = "; ".join(problems.lines())
    return InputError(f"{problems.file}: {what}; " + (f"mend it: {lines}" if lines else "give one with annotations"))


def _called(number: int | None, position: int) -> str:
    return f"at index {position}" if number is None else str(number)


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
