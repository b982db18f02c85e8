"""Time encoding and AP with the largest number of instances that an evaluation keeps: a hundred in each picture.

    python -m tests.benchmarks.many_detections --pictures 5000

The instances are random. Everything that `eval.py` does after decoding is timed, and in addition pycocotools' own AP of
the same results, which must be equal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import cv2
import numpy as np
from pycocotools.coco import COCO

from data.class_lists import ClassList
from tests.support.coco_results import pycocotools_evaluation
from tools.common.cli import Parser, positive_number, run
from tools.common.threads import ordered_map
from tools.evaluate.coco_metrics import GroundTruth, evaluate_coco
from tools.predict.instances import Instances
from tools.predict.mask_windows import MaskCrop, tight_crop
from tools.predict.predictor import DEFAULT_THREADS, decoding_thread

SIZE = 480, 640  # of the pictures
CLASSES = 80
FOUND, ANNOTATED = 100, 7  # instances in each picture; COCO has 7 annotated ones
SHAPES = 300  # different masks, which the pictures share


def random_windows(rng: np.random.Generator) -> list[MaskCrop]:
    """Return top, left and bool [h, w] of ellipses 10 to 300 pixels long, in column-major order as after decoding."""
    windows = []
    for _ in range(SHAPES):
        height, width = (int(side) for side in np.exp(rng.uniform(np.log(10), np.log(300), 2)))
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
        top, left = rng.integers(0, SIZE[0] - height), rng.integers(0, SIZE[1] - width)
        windows.append(tight_crop(MaskCrop(int(top), int(left), np.asfortranarray(mask > 0))))
    return windows


def random_instances(pictures: int, count: int, seed: int) -> Iterator[Instances]:
    windows, names = random_windows(np.random.default_rng(0)), tuple(map(str, range(CLASSES)))
    rng = np.random.default_rng([1, seed])
    for _ in range(pictures):
        chosen = [windows[i] for i in rng.integers(0, SHAPES, count)]
        scores = np.sort(rng.random(count, np.float32))[::-1]
        classes = rng.integers(0, CLASSES, count)
        yield Instances.from_crops(SIZE, chosen, scores, classes, names, range(1, CLASSES + 1))


def truth_of(pictures: int) -> GroundTruth:
    objects = []
    for image_id, annotated in enumerate(random_instances(pictures, ANNOTATED, seed=0)):
        for row, crop in zip(annotated.to_coco(image_id), annotated.crops):
            objects.append({**row, "id": len(objects) + 1, "area": int(crop.sum()), "iscrowd": 0})
    classes = ClassList(names=tuple(map(str, range(CLASSES))), ids=tuple(range(1, CLASSES + 1)))
    return GroundTruth("random", frozenset(range(pictures)), classes, tuple(objects), left_out=0)


def pycocotools_precision(truth: GroundTruth, rows: list[dict], kind: str) -> float:
    """Return AP of `kind` ("segm" or "bbox") by pycocotools alone."""
    annotations = COCO()
    annotations.dataset = {
        "images": [{"id": image_id, "height": SIZE[0], "width": SIZE[1]} for image_id in truth.image_ids],
        "categories": [{"id": category_id} for category_id in truth.classes.ids],
        "annotations": [dict(row) for row in truth.objects],
    }
    annotations.createIndex()
    hidden = "bbox" if kind == "segm" else "segmentation"
    found = annotations.loadRes([{key: value for key, value in row.items() if key != hidden} for row in rows])
    return float(pycocotools_evaluation(annotations, found, kind).stats[0])


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--pictures", type=positive_number, default=5000, help="how many (default: 5000)")
    args = parser.parse_args()
    truth = truth_of(args.pictures)
    found = list(random_instances(args.pictures, FOUND, seed=1))
    with clock("encoding"), decoding_thread(DEFAULT_THREADS) as decoder:
        jobs = ordered_map(decoder, lambda item: item[1].to_coco(item[0]), enumerate(found), ahead=2)
        rows = [row for of_picture in jobs for row in of_picture]
    with clock("AP of masks and boxes"):
        evaluation = evaluate_coco(truth, rows, truth.image_ids)
    for kind, ours in (("segm", evaluation.mask), ("bbox", evaluation.box)):
        with clock(f"pycocotools' AP of {kind}"), redirect_stdout(StringIO()):
            theirs = pycocotools_precision(truth, rows, kind)
        np.testing.assert_allclose(ours.summary["AP"], theirs, rtol=0, atol=1e-12)
    return 0


@contextmanager
def clock(what: str) -> Iterator[None]:
    """Print the seconds that the block takes."""
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
