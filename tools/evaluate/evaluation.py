"""What `eval.py` does: run a network over a data set, write what it found, and say how good it is."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from config.errors import InputError
from data.class_lists import ClassList
from data.coco import read_complete
from data.coco_pictures import Record, read_record_image
from data.files import atomic_write, write_json
from tools.common.distributed import World
from tools.dataset.generated import draw_if_missing
from tools.evaluate.coco_metrics import (
    Evaluation,
    GroundTruth,
    box_score,
    compare_instances,
    evaluate_coco,
    ground_truth,
)
from tools.evaluate.predict_records import predict_records
from tools.evaluate.report import write_report
from tools.predict.instances import Instances
from tools.predict.predictor import EnginePredictor

# COCO results by what they are: pycocotools takes the area of a mask from the box of the same row where there is one,
# so that AP by size is only right with files of their own.
RESULTS = {"segmentation": "masks.json", "bbox": "boxes.json"}
SUBMISSION = "detections_test-dev2017_{}_results"  # the name that the COCO server asks for


def evaluate_split(predictor: EnginePredictor, output: Path, *, world: World) -> Evaluation | None:
    """AP on the validation pictures; writes the results and a report into `output`. None in all processes but one."""
    config = predictor.config
    draw_if_missing(config, "val", world=world)
    found = read_complete(config.val_path, config.val_pre_path, predictor.classes)
    if not found.instances:
        raise InputError(f"{config.val_path}: has no usable instance; give the annotations of its pictures")
    if world.is_first:
        for line in found.problems.lines():
            print(line)
    rows = predict_records(predictor, found.records, world=world)
    if not world.is_first:
        return None
    for kind in RESULTS:
        _write_results(output, rows, kind)
    truth = ground_truth(found)
    evaluation = evaluate_coco(truth, rows, truth.image_ids)
    write_report(
        output,
        title=f"{config.name} on {config.val_path}",
        evaluation=evaluation,
        comparison=compare_instances(truth, rows, truth.image_ids),
        file_names={record.image_id: record.file_name for record in found.records},
        load=_Pictures(found.records, rows, truth, predictor.classes).load,
    )
    return evaluation


def write_submission(predictor: EnginePredictor, output: Path, *, world: World) -> Path | None:
    """Run the pictures of COCO test-dev and write the zip file of masks that the COCO server takes.

    None in all processes but one.
    """
    settings = predictor.config.eval_cfg
    found = read_complete(settings.test_dev_path, settings.test_dev_pre_path, predictor.classes)
    rows = predict_records(predictor, found.records, world=world)
    if not world.is_first:
        return None
    path = output / f"{SUBMISSION.format(predictor.config.name)}.zip"
    masks = _write_results(output, rows, "segmentation")
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(masks, path.with_suffix(".json").name)
    return path


def _write_results(output: Path, rows: Sequence[dict], kind: str) -> Path:
    keys = ("image_id", "category_id", kind)
    score_of = box_score if kind == "bbox" else itemgetter("score")
    write_json(output / RESULTS[kind], [{**{key: row[key] for key in keys}, "score": score_of(row)} for row in rows])
    return output / RESULTS[kind]


class _Pictures:
    """Pictures with what was found in them and what is there, for the report."""

    def __init__(self, records: Sequence[Record], rows: Sequence[dict], truth: GroundTruth, classes: ClassList) -> None:
        self.records = {record.image_id: record for record in records}
        self.classes = classes
        self.found = _by_picture(rows)
        self.annotated = _by_picture(truth.objects)

    def load(self, image_id: int, score: float) -> tuple[np.ndarray, Instances, Instances]:
        """The picture, uint8 [H, W, 3] RGB, the instances found with at least this score and those annotated."""
        image = read_record_image(self.records[image_id])
        found = [row for row in self.found.get(image_id, []) if row["score"] >= score]
        return (image, *(self._instances(rows, image) for rows in (found, self.annotated.get(image_id, []))))

    def _instances(self, rows: Sequence[dict], image: np.ndarray) -> Instances:
        index = {category: number for number, category in enumerate(self.classes.ids)}
        return Instances.from_windows(
            image.shape[:2],
            ((0, 0, coco_mask.decode(row["segmentation"])) for row in rows),  # one full mask at a time
            np.array([row.get("score", np.nan) for row in rows]),
            np.array([index[row["category_id"]] for row in rows], np.int64),
            self.classes.names,
            self.classes.ids,
        )


def _by_picture(rows: Sequence[dict]) -> dict[int, list[dict]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["image_id"]].append(row)
    return grouped
