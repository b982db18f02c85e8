"""COCO annotation files: read, checked entry by entry, and turned into records to train on or to evaluate.

train = read_coco("annotations/train.json", "train")
print(train.problems)
mask = decode_mask(annotation, record.height, record.width)  # for an annotation of a record in train.records
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from config.base import PROJECT
from config.errors import InputError, listed
from data.class_lists import ClassList
from data.coco_checks import (
    Problems,
    UnusableError,
    as_integer,
    boxes_match,
    check_area,
    check_bbox,
    check_segmentation,
    clip_box,
    decode_runs,
    pack_polygons,
    to_rle,
)
from data.coco_pictures import Annotation, Record, drop_unusable_files, read_pictures
from data.samples import MaskWindow


@dataclass(frozen=True)
class CocoData:
    """What is usable in one annotation file."""

    records: tuple[Record, ...]  # in the order of the file
    classes: ClassList
    categories: ClassList  # those of the file itself, of which `classes` may have more
    problems: Problems
    pictures: int  # usable ones, with and without instances
    instances: int  # usable ones
    crowds: int  # usable ones, which are not trained on
    empty: int  # of the pictures those without an instance
    left_out: int  # annotations that are not usable, or of a picture that is not


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
    check_files: leave out pictures that are not there, cannot be read or have another size than the file says, as far
    as their first bytes tell.

    Raises InputError where the file is not of this form, has categories that `classes` has not, or nothing remains.
    """
    content, problems = _read_json(Path(annotations)), Problems(Path(annotations))
    own = _read_classes(content["categories"], problems)
    if classes is None:
        classes = own
    else:
        check_same_classes(classes, own, first_name=classes_from, second_name=str(annotations))
    pictures = read_pictures(content["images"], Path(images), problems)
    if check_files:
        drop_unusable_files(pictures, Path(images), problems)
    own_ids = set(own.ids)
    class_of = {category: index for index, category in enumerate(classes.ids) if category in own_ids}
    usable = _add_annotations(pictures, content["annotations"], class_of, problems)
    records = tuple([record for record in usable if record.annotations or keep_empty])
    if not records:
        raise _no_data_error(problems, "no picture with a usable annotation" if usable else "no usable picture")
    instances = sum(len(record.annotations) for record in usable)
    crowds = sum(len(record.crowds) for record in usable)
    return CocoData(
        records=records,
        classes=classes,
        categories=own,
        problems=problems,
        pictures=len(usable),
        instances=instances,
        crowds=crowds,
        empty=sum(not record.annotations for record in usable),
        left_out=len(content["annotations"]) - instances - crowds,
    )


def read_complete(
    annotations: str | Path, images: str | Path, classes: ClassList, classes_from: object = "the checkpoint"
) -> CocoData:
    """Read what is evaluated on; relative paths start from the project's folder.

    Raises InputError where a picture is not usable: AP would be another number.
    """
    found = read_coco(
        PROJECT / annotations, PROJECT / images, classes=classes, classes_from=str(classes_from), keep_empty=True
    )
    if left_out := found.problems.count("image"):
        raise InputError(
            f"{annotations}: {left_out} of its {left_out + len(found.records)} pictures cannot be evaluated "
            f"({'; '.join(found.problems.lines())}); complete {images}, or take them out of the file"
        )
    return found


def check_same_classes(first: ClassList, second: ClassList, *, first_name: str, second_name: str) -> None:
    """Raise InputError where `second` has category ids that `first` has not, or that have other names there."""
    names = dict(zip(first.ids, first.names))
    remedy = "use annotation files with the same categories"
    unknown = [f"{number} {name!r}" for number, name in zip(second.ids, second.names) if number not in names]
    if unknown:
        ids, are = ("category id", "is") if len(unknown) == 1 else ("category ids", "are")
        raise InputError(
            f"{len(unknown)} {ids} of {second_name} {are} not in {first_name}: {listed(unknown)}; {remedy}"
        )
    renamed = [
        f"{number} is {name!r} and was {names[number]!r}"
        for number, name in zip(second.ids, second.names)
        if name.strip().casefold() != names[number].strip().casefold()
    ]
    if renamed:
        raise InputError(f"{second_name} has other category names than {first_name}: {listed(renamed)}; {remedy}")


def decode_mask(annotation: Annotation, height: int, width: int) -> MaskWindow:
    """The pixels of an annotation in its picture, as pycocotools decodes them.

    Very small or thin polygons may cover no pixel: the window is 0 x 0 then.
    """
    rle = to_rle(annotation.segmentation, height, width)
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    # Only the columns of the box are drawn: the runs go down column by column, background first.
    ends = decode_runs(rle["counts"]).cumsum()
    ends = np.minimum(np.maximum(ends - x * height, 0), w * height)
    lengths = np.concatenate((ends[:1], ends[1:] - ends[:-1]))
    inside = np.zeros(ends.size, np.uint8)
    inside[1::2] = 1
    pixels = np.repeat(inside, lengths).reshape(w, height).T[y : y + h]
    if not lengths[1::2].all():  # the box has the place of a run without a pixel in it
        return MaskWindow.from_full(pixels, top=y, left=x)
    return MaskWindow(y, x, np.ascontiguousarray(pixels))


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
        number, name = (as_integer(entry.get("id")), entry.get("name")) if type(entry) is dict else (None, None)
        if number is None:
            problems.add("category", "without a whole number as id, left out", _entry_label(number, position))
        elif not isinstance(name, str) or not name.strip():
            problems.add("category", "without a name, left out", _entry_label(number, position))
        elif names.get(number, name) != name:
            raise InputError(
                f"{problems.file}: the category id {number} is both {names[number]!r} and {name!r}; give each its own"
            )
        elif number in names:
            problems.add("category", "with the id and name of an earlier one, left out", str(number))
        else:
            names[number] = name
    if not names:
        raise _no_data_error(problems, "no usable category")
    classes = ClassList(names=tuple(names[number] for number in sorted(names)), ids=tuple(sorted(names)))
    first = {name: number for number, name in reversed(list(zip(classes.ids, classes.names)))}
    for number, name in zip(classes.ids, classes.names):
        if first[name] != number:
            problems.add("category", "with the name of an earlier one, kept", f"{number} {name!r}")
    return classes


def _add_annotations(
    pictures: dict[int, Record | None], entries: list, class_of: dict[int, int], problems: Problems
) -> list[Record]:
    """The usable pictures with their usable annotations."""
    found: dict[int, list[Annotation]] = {number: [] for number, record in pictures.items() if record}
    crowds: dict[int, list[tuple[int, Annotation]]] = {number: [] for number in found}
    ids: set[int] = set()
    bar = tqdm(entries, desc=problems.file.name, unit="annotation", unit_scale=True, delay=1, leave=False, disable=None)
    for position, entry in enumerate(bar):
        number = as_integer(entry.get("id")) if type(entry) is dict else None
        try:
            record = _find_record(entry, number, pictures)
            if record is None:
                continue
            is_crowd = _is_crowd(entry)
            annotation, remarks = _read_annotation(number, entry, record, class_of)
            instances, regions = found[record.image_id], crowds[record.image_id]
            if number in ids:
                _check_not_repeated(annotation, [*instances, *(crowd for _, crowd in regions)])
                remarks.append("with the id of another one, kept")
        except UnusableError as reason:
            problems.add("annotation", str(reason), _entry_label(number, position))
            continue
        ids.add(number)
        if is_crowd:
            regions.append((len(instances), annotation))
        else:
            instances.append(annotation)
        for remark in remarks:
            problems.add("annotation", remark, str(number))
    return [
        replace(pictures[image_id], annotations=tuple(found[image_id]), crowds=tuple(crowds[image_id]))
        for image_id in found
    ]


def _find_record(entry: object, number: int | None, pictures: dict[int, Record | None]) -> Record | None:
    """The picture of an annotation; None where that is left out, and the annotation with it."""
    if number is None:
        raise UnusableError("without a whole number as id, left out")
    image_id = as_integer(entry.get("image_id"))
    if image_id not in pictures:
        raise UnusableError("of an unknown image, left out")
    return pictures[image_id]


def _is_crowd(entry: dict) -> bool:
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UnusableError("with an iscrowd that is neither 0 nor 1, left out")
    return bool(crowd)


def _read_annotation(
    number: int, entry: dict, record: Record, class_of: dict[int, int]
) -> tuple[Annotation, list[str]]:
    """An annotation, and what is wrong with it although it is kept."""
    class_index = class_of.get(as_integer(entry.get("category_id")))
    if class_index is None:
        raise UnusableError("of an unknown category, left out")
    size = {"height": record.height, "width": record.width}
    segmentation, extent = check_segmentation(entry.get("segmentation"), **size)
    bbox, area, remarks = check_bbox(entry.get("bbox")), check_area(entry.get("area")), []
    if isinstance(segmentation, tuple) and len(segmentation) < len(entry["segmentation"]):
        remarks.append("kept without those of its polygons that are damaged")
    if area is None and entry.get("area") is not None:
        remarks.append("with an area that is no number of pixels, kept with that of its mask")
    box = clip_box(extent, **size)
    if box is None:
        raise UnusableError("whose polygons cover no pixel, left out")
    if bbox is not None:
        x, y, w, h = bbox
        own = clip_box((x, y, x + w, y + h), **size)
        if own is None:
            raise UnusableError("with a bbox without area in the picture, left out")
        if boxes_match(own, box):
            box = own
        else:
            remarks.append("with a bbox that is not that of its mask, trained on with the mask's")
    return Annotation(number, class_index, box, segmentation, bbox, area), remarks


def _check_not_repeated(annotation: Annotation, others: list[Annotation]) -> None:
    """An id may be used again in another picture or for another box; the same instance twice is one too many."""
    if any(other[:3] == annotation[:3] for other in others):
        raise UnusableError("with the id, category and bbox of an earlier one, left out")


def _no_data_error(problems: Problems, what: str) -> InputError:
    lines = "; ".join(problems.lines())
    return InputError(f"{problems.file}: {what}; " + (f"mend it: {lines}" if lines else "give one with annotations"))


def _entry_label(number: int | None, position: int) -> str:
    return f"at index {position}" if number is None else str(number)
