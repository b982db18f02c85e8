"""A COCO data set of 64 x 64 pixels whose instances are squares, and overrides that give it small grids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images import write_image
from tests.support.coco_files import runs_of

SIDE = 64
Square = tuple[int, int, int]  # left, top, side in pixels
# Cells have 8, 16 and 32 pixels; the scale of an instance is the side of its square.
GRIDS = (
    "data.short_side=64",
    "data.long_side=64",
    "augment.short_sides=()",
    "data.size_divisor=32",
    "head.num_grids=8,4,2",
    "head.strides=8,8,16",
    "target.scale_ranges=1,10,8,20,16,30",
    "target.box_border=0",
    "target.centre_fraction=0.2",
    "target.soft_masks=false",
)


def write_squares(folder: Path, split: str, pictures: Sequence[Sequence[Square]], names: Sequence[str]) -> list[str]:
    """Write a split, whose instances have the classes 1, 2 ... in turn, and its class list.

    Returns the overrides that use these files.
    """
    rows = []
    for image_id, squares in enumerate(pictures, start=1):
        image = np.full((SIDE, SIDE, 3), 40, np.uint8)
        for left, top, side in squares:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[top : top + side, left : left + side] = 1
            image[mask > 0] = (90 + side, left, top)
            segmentation = {"size": [SIDE, SIDE], "counts": runs_of(mask)}
            ids = {"id": len(rows) + 1, "image_id": image_id, "category_id": len(rows) % len(names) + 1}
            rows.append({**ids, "segmentation": segmentation, "bbox": [left, top, side, side], "iscrowd": 0})
        (folder / split).mkdir(parents=True, exist_ok=True)
        write_image(folder / split / f"{image_id}.png", image)
    numbers = range(1, len(pictures) + 1)
    images = [{"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE} for number in numbers]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / f"{split}.json").write_text(json.dumps(content))
    (folder / "classes.txt").write_text("\n".join(names))
    return [
        f"{split}_path={folder / f'{split}.json'}",
        f"{split}_pre_path={folder / split}",
        f"classes_path={folder / 'classes.txt'}",
    ]
