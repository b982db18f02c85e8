"""A small annotation file in COCO form, to read complete or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from data.coco import CocoData, read_coco

HEIGHT, WIDTH = 40, 60
DISC = np.fromfunction(lambda y, x: (y - 20) ** 2 + (x - 30) ** 2 < 100, (HEIGHT, WIDTH)).astype(np.uint8)
PICTURES = ("5.jpg", "2.jpg", "9.jpg")
SQUARE = [10, 10, 20, 10, 20, 20.5, 10, 20.5]
TRIANGLE = [30.0, 30.0, 50.0, 30.0, 40.0, 38.0]


def runs_of(mask: np.ndarray) -> list[int]:
    """Return the counts of an uncompressed RLE, pixel by pixel."""
    pixels = mask.reshape(-1, order="F").tolist()
    runs, value = [0], 0
    for pixel in pixels:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def rle(counts: object, size: object = (HEIGHT, WIDTH)) -> dict:
    return {"size": list(size), "counts": counts}


PICTURE = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
COMPRESSED = coco_mask.encode(np.asfortranarray(DISC))["counts"].decode()


def valid_content() -> dict:
    """Return three pictures, the last one empty, with each form of instance, a crowd, and gaps in category ids."""

    def row(number: int, image: int, category: int, segmentation: object, bbox: list, crowd: int = 0) -> dict:
        ids = {"id": number, "image_id": image, "category_id": category}
        return {**ids, "segmentation": segmentation, "bbox": bbox, "iscrowd": crowd, "area": 100}

    return {
        "info": {"year": 2017},
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in (5, 2, 9)],
        "annotations": [
            row(100, 5, 7, [[*SQUARE]], [10, 10, 10, 10.5]),
            row(101, 2, 1, [[*SQUARE], [*TRIANGLE]], [10.0, 10.0, 40.0, 28.0]),
            row(102, 5, 3, rle(COMPRESSED), [21, 11, 19, 19]),
            row(103, 5, 1, rle(runs_of(DISC)), [21, 11, 19, 19]),
            row(104, 2, 1, rle(runs_of(DISC)), [21, 11, 19, 19], crowd=1),
        ],
        "categories": [{"id": 7, "name": "ring"}, {"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def read(folder: Path, content: object, *, pictures: tuple[str, ...] = PICTURES, **options: object) -> CocoData:
    """Write `content` as train.json and pictures of these names into the folder `pictures`, and read the file."""
    (folder / "pictures").mkdir(exist_ok=True)
    for name in pictures:
        (folder / "pictures" / name).write_bytes(PICTURE)
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_coco(path, folder / "pictures", **options)
