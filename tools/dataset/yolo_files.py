"""Read data sets in YOLO's format: data.yaml, and a text file of polygons for each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config.errors import InputError, listed
from data.class_lists import ClassList
from data.coco_checks import MAX_OUTLINE, outline_length
from data.coco_rows import CocoInstance
from data.files import read_text
from data.images import find_images, read_image
from data.labelme_shapes import clip_polygon
from tools.dataset.coco_writer import UnusableFileError

SPLITS = ("train", "val")
_MAX_COORDINATE = 2.0  # share of a side; a few coordinates are slightly outside of 0 to 1


class YoloData(NamedTuple):
    """The pictures of each split by its name, and the classes, whose category ids are 1, 2, 3 ..."""

    pictures: dict[str, list[Path]]
    classes: ClassList


class YoloPicture(NamedTuple):
    """A picture with its instances, and a reason for each line that gives none."""

    picture: Path
    labels: Path
    size: tuple[int, int]  # height, width
    instances: tuple[CocoInstance, ...]
    left_out: tuple[str, ...]


def read_data_yaml(path: Path) -> YoloData:
    """Read a data.yaml. Raises InputError if it, or what it names, cannot be used."""
    import yaml  # type: ignore[import-untyped]  # optional

    try:
        content = yaml.safe_load(read_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path}: cannot be read ({reason}); give the data.yaml of a data set") from None
    if not isinstance(content, dict) or "names" not in content or not any(content.get(split) for split in SPLITS):
        raise InputError(f"{path}: has no names, and no folders as train or val; give the data.yaml of a data set")
    root = path.parent / _check_name(content.get("path") or "", path, "path")
    if not root.is_dir():  # often that of the machine where the data set was made
        root = path.parent
    pictures = {split: _find_pictures(root, content[split], path, split) for split in SPLITS if content.get(split)}
    return YoloData(pictures, _read_names(content["names"], path))


def _read_names(names: Any, path: Path) -> ClassList:
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(rows, dict) or sorted(rows, key=str) != sorted(range(len(rows)), key=str) or not rows:
        raise InputError(f"{path}: its names must be a list, or a name for each of the numbers 0, 1, 2 ...")
    texts = tuple(str(rows[i]).strip() for i in range(len(rows)))
    if bad := [text for text in texts if not text or not text.isprintable() or texts.count(text) > 1]:
        raise InputError(f"{path}: the names {listed(bad)} are empty, not printable or there twice; correct them")
    return ClassList(texts, tuple(range(1, len(texts) + 1)))


def _find_pictures(root: Path, named: Any, path: Path, split: str) -> list[Path]:
    """Return the pictures of the folders, or of the text files with a picture per line, that a split names."""
    found: list[Path] = []
    for name in named if isinstance(named, list) else [named]:
        source = root / _check_name(name, path, split)
        if source.suffix == ".txt" and source.is_file():
            try:
                lines = [line.strip() for line in read_text(source).splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{source}: cannot be read ({error}); give a list of pictures in UTF-8") from None
            found += [source.parent / line if line.startswith("./") else root / line for line in lines if line]
        elif not source.exists():
            raise InputError(f"{path}: {split} names {source}, which does not exist; correct it")
        else:
            found += find_images([source])
    return found


def _check_name(value: Any, path: Path, key: str) -> str:
    """Return a value of data.yaml that names a folder. Raises InputError if it does not."""
    if not isinstance(value, str) or "\0" in value:
        raise InputError(f"{path}: {key} must be the name of a folder, and is {value!r}")
    return value


def labels_of(picture: Path) -> Path:
    """Return the file of a picture's labels: in the folder "labels" beside "images", as Ultralytics looks for it."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_labels(picture: Path, classes: ClassList) -> YoloPicture:
    """Read a picture's labels; without a file it has no instances.

    Raises ImageError or UnusableFileError if the picture or the file cannot be used.
    """
    height, width = read_image(picture).shape[:2]
    path = labels_of(picture)
    try:
        lines = read_text(path).splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFileError(f"{path}: cannot be read ({error})") from error
    instances, left_out = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                instances.append(_read_line(line, classes, height, width))
            except ValueError as error:
                left_out.append(f"{path}: line {number}: {error}")
    return YoloPicture(picture, path, (height, width), tuple(instances), tuple(left_out))


def _read_line(line: str, classes: ClassList, height: int, width: int) -> CocoInstance:
    """Convert class x1 y1 x2 y2 ... Raises ValueError with the reason for a line that gives no instance."""
    first, *rest = line.split()
    if not first.isdecimal() or int(first) >= len(classes):
        raise ValueError(f"the class {first} is not one of the {len(classes)} in data.yaml")
    if len(rest) == 4:
        raise ValueError("is a box, not a polygon")
    if len(rest) % 2 or len(rest) < 6:
        raise ValueError(f"has {len(rest)} numbers after the class, not three or more pairs x y")
    points = np.array([float(value) for value in rest]).reshape(-1, 2)
    if not (np.abs(points) <= _MAX_COORDINATE).all():
        raise ValueError("has coordinates that are not shares of the sides, from 0 to 1")
    polygon = clip_polygon(points * (width, height), height=height, width=width).round(2).ravel()
    if len(polygon) < 6:
        raise ValueError("has no area in the picture")
    if outline_length([polygon]) > MAX_OUTLINE:
        raise ValueError(f"has an outline of more than {MAX_OUTLINE} pixels")
    instance = CocoInstance.from_polygons(classes.names[int(first)], [polygon.tolist()], height=height, width=width)
    if instance.area == 0:
        raise ValueError("covers no pixel of the picture")
    return instance
