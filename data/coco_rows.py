"""Data sets in COCO form: pictures and their instances to the rows of an annotation file."""

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
    """One instance as it will stand in the file.

    category: its class name.
    rle: the mask, compressed as `pycocotools.mask.encode` does it; area and box are taken from it.
    polygons: x1, y1, x2, y2 ... in pixels, united by COCO; None where the mask is more than polygons can say.
    """

    category: str
    rle: dict
    polygons: tuple[list[float], ...] | None = None

    @classmethod
    def from_mask(cls, category: str, mask: np.ndarray) -> CocoInstance:
        """mask: [H, W], true or 1 inside."""
        return cls(category, coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))

    @classmethod
    def from_polygons(cls, category: str, polygons: Sequence[list[float]], *, height: int, width: int) -> CocoInstance:
        """polygons: at least one, each of three corners or more, in a picture of this size."""
        return cls(category, to_rle(tuple(polygons), height, width), tuple(polygons))

    @classmethod
    def union(cls, parts: Sequence[CocoInstance]) -> CocoInstance:
        """Parts of one class in one picture, at least one; polygons if all of them are."""
        polygons = None
        if all(part.polygons is not None for part in parts):
            polygons = tuple(chain.from_iterable(part.polygons for part in parts))
        return cls(parts[0].category, coco_mask.merge([part.rle for part in parts]), polygons)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int(coco_mask.area(self.rle))

    @property
    def segmentation(self) -> list[list[float]] | dict:
        if self.polygons is not None:
            return list(self.polygons)
        return {"size": self.rle["size"], "counts": self.rle["counts"].decode("ascii")}


@dataclass(frozen=True)
class CocoPicture:
    """file_name: relative to the folder of the pictures, with forward slashes; height, width: in pixels."""

    file_name: str
    height: int
    width: int
    instances: tuple[CocoInstance, ...]


def coco_dict(pictures: Iterable[CocoPicture], classes: ClassList) -> dict:
    """What `json.dump` turns into an annotation file: images, annotations and categories.

    Pictures and annotations are numbered from 1 in their order; every class is a category, with instances or without.
    Raises KeyError for an instance of another class.
    """
    category_ids = dict(zip(classes.names, classes.ids))
    images, annotations = [], []
    for image_id, picture in enumerate(pictures, start=1):
        images.append(
            {"id": image_id, "file_name": picture.file_name, "height": picture.height, "width": picture.width}
        )
        for instance in picture.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[instance.category],
                    "segmentation": instance.segmentation,
                    "area": instance.area,
                    "bbox": coco_mask.toBbox(instance.rle).tolist(),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in category_ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
