"""Annotations and results in COCO form whose masks are rectangles, and their evaluation by pycocotools."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import read_coco
from tools.evaluate.coco_metrics import COCO_MAX_DETS, SUMMARY, GroundTruth, ground_truth

SIDE = 100  # of the pictures below
CAT, DOG = 3, 7
NAMES = [name.format(COCO_MAX_DETS) for name in SUMMARY]  # of the metrics


def rectangle(x: int, y: int, width: int, height: int) -> dict:
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle = coco_mask.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def annotation(image_id: int, category_id: int, box: tuple, **others) -> dict:
    x, y, width, height = box
    segmentation = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    entry = {"category_id": category_id, "bbox": list(box), "area": width * height, "segmentation": segmentation}
    return {"image_id": image_id, **entry, "iscrowd": 0, **others}


def row(image_id: int, category_id: int, box: tuple, score: float) -> dict:
    """Return a result whose mask is its box."""
    found = {"image_id": image_id, "category_id": category_id, "bbox": [float(side) for side in box], "score": score}
    return {**found, "segmentation": rectangle(*box)}


def data_set(*annotations: dict, pictures: int = 1) -> dict:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in range(1, pictures + 1)],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }


def pycocotools_evaluation(annotations: COCO, results: COCO, kind: str) -> COCOeval:
    """Return what pycocotools itself computes, without its prints. kind: "segm" for masks or "bbox" for boxes."""
    evaluation = COCOeval(annotations, results, kind)
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def truth_in(annotations: str | Path) -> GroundTruth:
    """Read an annotation file without looking at its pictures."""
    return ground_truth(read_coco(annotations, Path(annotations).parent, keep_empty=True, check_files=False))


def truth_of(content: dict) -> GroundTruth:
    """Read an annotation file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val.json"
        path.write_text(json.dumps(content))
        return truth_in(path)
