"""Build the content of a COCO annotation file from pictures and their instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from pycocotools import mask as coco_mask

from data.class_lists import ClassList
from data.coco_checks import to_rle


@dataclass(frozen=True)
class CocoInstance:
    """One instance of an annotation file.

    class_name: as in the data set's class list.
    rle: the mask as compressed RLE of `pycocotools.mask.encode`; area and box are computed from it.
    polygons: each x1, y1, x2, y2 ... in pixels; COCO takes their union. None if the mask is stored as RLE.
    """

    class_name: str
    rle: dict
    polygons: tuple[list[float], ...] | None = None

    @classmethod
    def from_mask(cls, class_name: str, mask: np.ndarray) -> CocoInstance:
        """Create an instance stored as RLE; mask: [H, W], true or 1 inside."""
        return cls(class_name, coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))

    @classmethod
    def from_polygons(
        cls, class_name: str, polygons: Sequence[list[float]], *, height: int, width: int
    ) -> CocoInstance:
        """Create an instance from at least one polygon of at least three points, in a picture of this size."""
        return cls(class_name, to_rle(tuple(polygons), height, width), tuple(polygons))

    @classmethod
    def union(cls, parts: Sequence[CocoInstance]) -> CocoInstance:
        """Unite at least one part of the same class and picture; stored as polygons if all parts have polygons."""
        lists = [part.polygons for part in parts if part.polygons is not None]
        polygons = tuple(chain.from_iterable(lists)) if len(lists) == len(parts) else None
        return cls(parts[0].class_name, coco_mask.merge([part.rle for part in parts]), polygons)

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(coco_mask.area(self.rle))

    @property
    def segmentation(self) -> list[list[float]] | dict:
        if self.polygons is not None:
            return list(self.polygons)
        return {"size": self.rle["size"], "counts": self.rle["counts"].decode("ascii")}


@dataclass(frozen=True)
class CocoPicture:
    """A picture of an annotation file.

    file_name: relative to the folder of the pictures, with forward slashes. height, width: in pixels.
    """

    file_name: str
    height: int
    width: int
    instances: tuple[CocoInstance, ...]


def image_row(image_id: int, picture: CocoPicture) -> dict:
    """Return the row of a picture in `images`."""
    return {"id": image_id, "file_name": picture.file_name, "height": picture.height, "width": picture.width}


def annotation_row(number: int, image_id: int, category_id: int, instance: CocoInstance) -> dict:
    """Return the row of an instance in `annotations`; number: its id."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": instance.segmentation,
        "area": instance.area,
        "bbox": coco_mask.toBbox(instance.rle).tolist(),
        "iscrowd": 0,
    }


def category_rows(classes: ClassList) -> list[dict]:
    """Return the rows of `categories`."""
    return [{"id": number, "name": name} for name, number in zip(classes.names, classes.ids)]


def coco_dict(pictures: Iterable[CocoPicture], classes: ClassList) -> dict:
    """Return images, annotations and categories of an annotation file, ready for `json.dump`.

    Pictures and annotations are numbered from 1 in their order. Every class becomes a category, also without instances.
    Raises KeyError for an instance of a class that is not in `classes`.
    """
    category_ids = dict(zip(classes.names, classes.ids))
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, picture in enumerate(pictures, start=1):
        images.append(image_row(image_id, picture))
        for instance in picture.instances:
            category_id = category_ids[instance.class_name]
            annotations.append(annotation_row(len(annotations) + 1, image_id, category_id, instance))
    return {"images": images, "annotations": annotations, "categories": category_rows(classes)}
