"""Compare two forms of a network: their time, their mask AP, and what both find."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from config.base import Config
from config.coco_layout import OPTION_REMEDIES
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData, read_complete
from data.images import read_image
from tools.evaluate.coco_metrics import ground_truth, mask_precision
from tools.evaluate.predict_records import predict_records
from tools.predict.instances import Instances
from tools.predict.predictor import Predictor

SAME = 0.5  # IoU of two masks of one class from which on they are the same instance


def spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` of `count` indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, limit)).astype(int).tolist()


def read_annotated(annotations: Path, pictures: Path, classes: ClassList, network: Path) -> CocoData:
    """Read the annotations of --annotations and --pictures, and print what is wrong with them.

    network: the file that states the classes. Raises InputError if there is no usable instance.
    """
    data = read_complete(annotations.resolve(), pictures.resolve(), classes, network, remedies=OPTION_REMEDIES)
    for line in data.problems.lines():
        print(line)
    if not data.instances:
        raise InputError(f"{annotations}: has no usable instance; give a file with the annotations of the pictures")
    return data


def check_readable(path: Path, config: Config) -> Path:
    """Return the path of a picture. Raises ImageError if it cannot be read for a network of this config."""
    read_image(path, config.data.stretch)
    return path


def network_seconds(predictors: Sequence[Predictor], paths: Sequence[Path]) -> list[float]:
    """Return the median time of each network per picture, measured in turn, so that disturbances affect all alike."""
    seconds: list[list[float]] = [[] for _ in predictors]
    for path in paths:
        image = read_image(path, predictors[0].config.data.stretch)
        for predictor, own in zip(predictors, seconds):
            prepared = predictor.prepare(image)
            batch = predictor.pad([prepared]), [prepared.size]
            predictor.engine(*batch)
            start = time.perf_counter()
            predictor.engine(*batch)
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def mask_summary(predictor: Predictor, data: CocoData) -> Mapping[str, Any]:
    """Return the summary of the mask AP on annotated pictures."""
    truth = ground_truth(data)
    rows = predict_records(predictor, data.records)
    return mask_precision(truth, rows, truth.image_ids, predictor.config.eval_cfg.max_dets).summary


def count_found(wanted: Instances, found: Instances) -> int:
    """Count the instances of `wanted` that `found` has too: one of the same class, with an IoU of SAME or more."""
    if not len(wanted) or not len(found):
        return 0
    ious = coco_mask.iou(wanted.to_rle(), found.to_rle(), [0] * len(found))
    return int(((ious >= SAME) & (wanted.classes[:, None] == found.classes)).any(axis=1).sum())
