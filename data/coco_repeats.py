"""Find what is repeated in annotation files: annotations, files of pictures, and pictures in two files."""

from __future__ import annotations

import filecmp
import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from data.coco_checks import Problems, Segmentation
from data.coco_pictures import Annotation, Record


def report_repeats(records: Sequence[Record], problems: Problems) -> None:
    """Add to `problems` the annotations and the files that repeat an earlier one of these records; all are kept."""
    for record in records:
        for group in (record.annotations, [crowd for _, crowd in record.crowds]):
            for annotation in _repeated(group):
                what = "with the category and outline of an earlier one of the same image, kept; remove the copies"
                problems.add("annotation", what, f"{annotation.id} (image {record.image_id})")
    images = defaultdict(list)
    for record in records:
        images[record.path].append(record)
    for first, *others in images.values():
        if others:
            ids = ", ".join(str(record.image_id) for record in (first, *others))
            what = "of more than one image, kept; give each file one image id"
            problems.add("file name", what, f"{first.file_name!r} (images {ids})")


def _repeated(annotations: Iterable[Annotation]) -> Iterator[Annotation]:
    """Yield the annotations of a picture that have the category and the outline of an earlier one."""
    seen = set()
    for annotation in annotations:
        key = (annotation.class_index, _outline_key(annotation.segmentation))
        if key in seen:
            yield annotation
        seen.add(key)


def _outline_key(segmentation: Segmentation) -> bytes | tuple[bytes, ...]:
    """Return a value that is equal for equal outlines of the same form, polygons or RLE."""
    if isinstance(segmentation, dict):
        return segmentation["counts"]
    return tuple([polygon.tobytes() for polygon in segmentation])


def find_shared(first: Sequence[Record], second: Sequence[Record]) -> list[Record]:
    """Return the records of `second` whose file, after links, is also a file of `first`."""
    files = set(_resolve_paths(first))
    return [record for record, file in zip(second, _resolve_paths(second)) if file in files]


def find_copies(first: Sequence[Record], second: Sequence[Record]) -> list[Record]:
    """Return the records of `second` whose file is another one than a file of `first`, with its name and content."""
    by_name = defaultdict(set)
    for record, file in zip(first, _resolve_paths(first)):
        by_name[record.path.name].add(file)
    files = set().union(*by_name.values())
    return [
        record
        for record, file in zip(second, _resolve_paths(second))
        if file not in files and any(_are_equal(file, other) for other in by_name.get(record.path.name, ()))
    ]


def _resolve_paths(records: Sequence[Record]) -> list[str]:
    """Return the absolute path of each record's file, after links."""
    folder = functools.cache(os.path.realpath)  # resolving the whole path of every file takes several times as long
    paths = (record.path for record in records)
    return [
        os.path.realpath(path) if path.is_symlink() else f"{folder(path.parent)}{os.sep}{path.name}" for path in paths
    ]


def _are_equal(first: str, second: str) -> bool:
    """Return whether two files have the same content, which is read only if their sizes are equal."""
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # removed since the annotation file was read
        return False
