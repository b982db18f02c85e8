"""Read COCO annotation files: check every entry and build the records for training and evaluation.

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
from config.coco_layout import CONFIG_REMEDIES, Remedies
from config.errors import InputError, listed, printable
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
from data.coco_repeats import report_repeats
from data.files import json_damage, read_text
from data.samples import MaskWindow


@dataclass(frozen=True)
class CocoData:
    """The usable content of one annotation file."""

    records: tuple[Record, ...]  # in the order of the file
    classes: ClassList
    categories: ClassList  # the categories of the file itself; `classes` may have more
    problems: Problems
    pictures: int  # usable pictures, with and without instances
    instances: int  # usable instances
    crowds: int  # usable crowds; they are not trained on
    empty: int  # usable pictures without an instance
    left_out: int  # annotations that are not usable or whose picture is not usable


def read_coco(
    annotations: str | Path,
    images: str | Path,
    *,
    classes: ClassList | None = None,
    classes_from: str = "the class list",
    keep_empty: bool = False,
    check_files: bool = True,
    remedies: Remedies = CONFIG_REMEDIES,
) -> CocoData:
    """Read a COCO instance annotation file. Faulty entries are left out. `problems` counts them and repeated ones.

    images: the folder of the pictures; file names are relative to it or absolute, with slashes or backslashes.
    classes: the class of each category id (default: the file's own categories, sorted by id).
    classes_from: the origin of `classes`, for messages.
    keep_empty: also keep pictures without instances; then the file may lack the list of annotations.
    check_files: leave out pictures that are missing, unreadable or of another size, judged by their first bytes.
    remedies: for messages about files that are not found.
    Raises InputError if the file is not a COCO file, has categories missing in `classes`, or has nothing usable.
    """
    content, problems = _read_json(Path(annotations), remedies, keep_empty), Problems(Path(annotations))
    own = _read_classes(content["categories"], problems)
    if classes is None:
        classes = own
    else:
        check_same_classes(classes, own, first_name=classes_from, second_name=str(annotations))
    pictures = read_pictures(content["images"], Path(images), problems)
    if check_files:
        drop_unusable_files(pictures, Path(images), problems, remedies)
    class_of = {category: index for index, category in enumerate(classes.ids) if category in own.ids}
    usable = _add_annotations(pictures, content["annotations"], class_of, problems)
    report_repeats(usable, problems)
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


def read_categories(annotations: str | Path) -> ClassList:
    """Read the classes of an annotation file alone: its categories. Raises InputError as `read_coco` does."""
    path = PROJECT / annotations
    return _read_classes(_read_json(path, CONFIG_REMEDIES, True)["categories"], Problems(path))


def read_complete(
    annotations: str | Path,
    images: str | Path,
    classes: ClassList,
    classes_from: object = "the network",
    *,
    remedies: Remedies = CONFIG_REMEDIES,
) -> CocoData:
    """Read an annotation file for evaluation; relative paths start from the project's folder.

    Raises InputError if any picture is not usable, because AP would not be comparable.
    """
    data = read_coco(
        PROJECT / annotations,
        PROJECT / images,
        classes=classes,
        classes_from=str(classes_from),
        keep_empty=True,
        remedies=remedies,
    )
    if left_out := data.problems.count("image"):
        raise InputError(
            f"{annotations}: {left_out} of its {left_out + len(data.records)} pictures cannot be evaluated "
            f"({'; '.join(data.problems.lines('image'))}); correct these entries, or add missing pictures to {images}"
        )
    return data


def check_same_classes(first: ClassList, second: ClassList, *, first_name: str, second_name: str) -> None:
    """Raise InputError if a category id of `second` is missing in `first` or has another name there."""
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
    """Decode an annotation's mask, with the same pixels as pycocotools; height, width: of its picture.

    Very small or thin polygons may cover no pixel; their window is 0 x 0.
    """
    rle = to_rle(annotation.segmentation, height, width)
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    # Decode only the columns of the box. The runs go down column by column, background first.
    ends = decode_runs(rle["counts"]).cumsum()
    ends = np.minimum(np.maximum(ends - x * height, 0), w * height)
    lengths = np.concatenate((ends[:1], ends[1:] - ends[:-1]))
    inside = np.zeros(ends.size, np.uint8)
    inside[1::2] = 1
    pixels = np.repeat(inside, lengths).reshape(w, height).T[y : y + h]
    if not lengths[1::2].all():  # toBbox includes the position of an empty run, so the box may be too large
        return MaskWindow.from_full(pixels, top=y, left=x)
    return MaskWindow(y, x, np.ascontiguousarray(pixels))


def _read_json(path: Path, remedies: Remedies, may_lack_annotations: bool) -> dict:
    """Return an annotation file's images, categories and annotations, with polygons already packed into arrays."""
    try:
        content = json.loads(read_text(path), object_hook=pack_polygons)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedies.annotations}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON or cut off ({json_damage(error)}); export or copy it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a COCO annotation file (an object with images and categories); give one")
    if may_lack_annotations:  # as the files of COCO's test pictures do
        content.setdefault("annotations", [])
    lists = {name: content.get(name) for name in ("images", "categories", "annotations")}
    for name, value in lists.items():
        if not isinstance(value, list):
            raise InputError(f"{path}: has no list of {name}; give a COCO annotation file")
    return lists


def _read_classes(entries: list, problems: Problems) -> ClassList:
    """Return the usable categories sorted by id. Raises InputError if an id has two names or no category is usable."""
    names: dict[int, str] = {}
    for position, entry in enumerate(entries):
        number, name = (as_integer(entry.get("id")), entry.get("name")) if type(entry) is dict else (None, None)
        if number is None:
            problems.add("category", "without an integer id, left out", _entry_label(number, position))
        elif not isinstance(name, str) or not name.strip():
            problems.add("category", "without a name, left out", _entry_label(number, position))
        elif names.get(number, name) != name:
            raise InputError(
                f"{problems.file}: the category id {number} is both {names[number]!r} and {name!r}; "
                "give each its own id"
            )
        elif number in names:
            problems.add("category", "with the id and name of an earlier one, left out", str(number))
        else:
            names[number] = name
    if not names:
        raise _no_data_error(problems, "no usable category")
    classes = ClassList(names=tuple(names[number] for number in sorted(names)), ids=tuple(sorted(names)))
    seen = set()
    for number, name in zip(classes.ids, classes.names):
        if name in seen:
            problems.add("category", "with the name of an earlier one, kept", f"{number} {name!r}")
        seen.add(name)
    return classes


def _add_annotations(
    pictures: dict[int, Record | None], entries: list, class_of: dict[int, int], problems: Problems
) -> list[Record]:
    """Return the usable pictures with their usable annotations."""
    instances: dict[int, list[Annotation]] = {number: [] for number, record in pictures.items() if record}
    crowds: dict[int, list[tuple[int, Annotation]]] = {number: [] for number in instances}
    ids: set[int] = set()
    name = printable(problems.file.name)
    bar = tqdm(entries, desc=name, unit="annotation", unit_scale=True, delay=1, leave=False, disable=None)
    for position, entry in enumerate(bar):
        number = as_integer(entry.get("id")) if type(entry) is dict else None
        try:
            if number is None:
                raise UnusableError("without an integer id")
            record = _find_record(entry, pictures)
            if record is None:
                continue
            is_crowd = _is_crowd(entry)
            annotation, remarks = _read_annotation(number, entry, record, class_of)
            own_instances, own_crowds = instances[record.image_id], crowds[record.image_id]
            if number in ids:
                _check_not_repeated(annotation, [*own_instances, *(crowd for _, crowd in own_crowds)])
                remarks.append("with the id of another one, kept")
        except UnusableError as reason:
            problems.add("annotation", f"{reason}, left out", _entry_label(number, position))
            continue
        ids.add(number)
        if is_crowd:
            own_crowds.append((len(own_instances), annotation))
        else:
            own_instances.append(annotation)
        for remark in remarks:
            problems.add("annotation", remark, str(number))
    return [
        replace(record, annotations=tuple(instances[image_id]), crowds=tuple(crowds[image_id]))
        for image_id, record in pictures.items()
        if record
    ]


def _find_record(entry: dict, pictures: dict[int, Record | None]) -> Record | None:
    """Return the picture of an annotation; None if the picture is left out."""
    image_id = as_integer(entry.get("image_id"))
    if image_id not in pictures:
        raise UnusableError("of an unknown image")
    return pictures[image_id]


def _is_crowd(entry: dict) -> bool:
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UnusableError("with an iscrowd that is neither 0 nor 1")
    return bool(crowd)


def _read_annotation(
    number: int, entry: dict, record: Record, class_of: dict[int, int]
) -> tuple[Annotation, list[str]]:
    """Return a usable annotation and remarks on faults that do not prevent its use."""
    category_id = as_integer(entry.get("category_id"))
    if category_id not in class_of:
        raise UnusableError("of an unknown category")
    size = {"height": record.height, "width": record.width}
    segmentation, extent = check_segmentation(entry.get("segmentation"), **size)
    bbox, area, remarks = check_bbox(entry.get("bbox")), check_area(entry.get("area")), []
    if isinstance(segmentation, tuple) and len(segmentation) < len(entry["segmentation"]):
        remarks.append("kept without its damaged polygons")
    if area is None and entry.get("area") is not None:
        remarks.append("with an area that is not a number of pixels, kept with the area of its mask")
    box = clip_box(extent, **size)
    if box is None:
        raise UnusableError("whose polygons cover no pixel")
    if bbox is not None:
        x, y, w, h = bbox
        own = clip_box((x, y, x + w, y + h), **size)
        if own is None:
            raise UnusableError("with a bbox without area in the picture")
        if boxes_match(own, box):
            box = own
        else:
            remarks.append("with a bbox that does not match its mask: training takes the mask's, box AP the file's")
    return Annotation(number, class_of[category_id], box, segmentation, bbox, area), remarks


def _check_not_repeated(annotation: Annotation, others: list[Annotation]) -> None:
    """Raise UnusableError if one of `others` has the same id, class and box; an id alone may be repeated."""
    if any(other[:3] == annotation[:3] for other in others):
        raise UnusableError("with the id, category and bbox of an earlier one")


def _no_data_error(problems: Problems, what: str) -> InputError:
    lines = "; ".join(problems.lines())
    remedy = f"correct it: {lines}" if lines else "give a file with annotations"
    return InputError(f"{problems.file}: {what}; {remedy}")


def _entry_label(number: int | None, position: int) -> str:
    """Return an entry's id for a message, or its position if it has none."""
    return f"at index {position}" if number is None else str(number)
