"""Find what is repeated in annotation files: annotations, files of pictures, and pictures in two files."""

from __future__ import annotations

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
