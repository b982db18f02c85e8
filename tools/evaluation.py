"""What `eval.py` does: run a network over a data set, write what it found, and say how good it is."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from config.base import PROJECT, Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import Record, read_coco
from data.files import write_whole
from data.images import read_image
from tools.coco_evaluation import Evaluation, GroundTruth, compare_instances, evaluate_coco, read_ground_truth
from tools.distributed import World
from tools.draw_shapes import provide
from tools.evaluation_report import write_report
from tools.evaluator import predict_records
from tools.folder_prediction import write_json
from tools.instances import Instances
from tools.predictor import Predictor

# COCO results by what they are: pycocotools takes the area of a mask from the box of the same row where there is one,
# so that AP by size is only right with files of their own.
RESULTS = {"segmentation": "masks.json", "bbox": "boxes.json"}
SUBMISSION = "detections_test-dev2017_{}_results"  # the name that the COCO server asks for


def evaluate_split(predictor: Predictor, output: Path, *, world: World) -> Evaluation | None:
    """AP on the validation pictures; writes the results and a report into `output`. None in all processes but one."""
    config = predictor.config
    provide(config, "val", world=world)
    truth = read_ground_truth(PROJECT / config.val_path)
    records = all_records(config, predictor.classes, truth)
    rows = predict_records(predictor, records, world=world)
    if not world.is_first:
        return None
    for kind in RESULTS:
        _write_results(output, rows, kind)
    image_ids = {record.image_id for record in records}
    evaluation = evaluate_coco(truth, rows, image_ids)
    write_report(
        output,
        title=f"{config.name} on {config.val_path}",
        evaluation=evaluation,
        comparison=compare_instances(truth, rows, image_ids),
        file_names={record.image_id: record.file_name for record in records},
        load=_Pictures(records, rows, truth, predictor.classes).load,
    )
    return evaluation


def all_records(config: Config, classes: ClassList, truth: GroundTruth) -> tuple[Record, ...]:
    """The validation pictures. Raises InputError where one is missing: AP without it would be another number."""
    found = read_coco(
        PROJECT / config.val_path,
        PROJECT / config.val_pre_path,
        classes=classes,
        classes_from="the checkpoint",
        keep_empty=True,
    )
    if left_out := len(truth.image_ids) - len(found.records):
        raise InputError(
            f"{config.val_path}: {left_out} of its {len(truth.image_ids)} pictures cannot be evaluated "
            f"({'; '.join(found.problems.lines())}); complete {config.val_pre_path}, or take them out of the file"
        )
    return found.records


def write_submission(predictor: Predictor, output: Path, *, world: World) -> Path:
    """Run the pictures of COCO test-dev and write the zip file of masks that the COCO server takes."""
    settings = predictor.config.eval_cfg
    found = read_coco(
        PROJECT / settings.test_dev_path,
        PROJECT / settings.test_dev_pre_path,
        classes=predictor.classes,
        classes_from="the checkpoint",
        keep_empty=True,
    )
    rows = predict_records(predictor, found.records, world=world)
    path = output / f"{SUBMISSION.format(predictor.config.name)}.zip"
    if world.is_first:
        masks = _write_results(output, rows, "segmentation")
        with write_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(masks, path.with_suffix(".json").name)
    return path


def _write_results(output: Path, rows: Sequence[dict], kind: str) -> Path:
    keys = ("image_id", "category_id", "score", kind)
    write_json(output / RESULTS[kind], [{key: row[key] for key in keys} for row in rows])
    return output / RESULTS[kind]


class _Pictures:
    """Pictures with what was found in them and what is there, for the report."""

    def __init__(
        self, records: Sequence[Record], rows: Sequence[dict], truth: GroundTruth, classes: ClassList
    ) -> None:
        self.records = {record.image_id: record for record in records}
        self.classes = classes
        self.found = _by_picture(rows)
        self.annotated = _by_picture(truth.objects)

    def load(self, image_id: int) -> tuple[np.ndarray, Instances, Instances]:
        """The picture, uint8 [H, W, 3] RGB, the instances found and those annotated."""
        image = read_image(self.records[image_id].path)
        return (image, *(self._instances(rows.get(image_id, []), image) for rows in (self.found, self.annotated)))

    def _instances(self, rows: Sequence[dict], image: np.ndarray) -> Instances:
        index = {category: number for number, category in enumerate(self.classes.ids)}
        rows = [row for row in rows if row["category_id"] in index]
        return Instances.from_windows(
            image.shape[:2],
            [(0, 0, coco_mask.decode(row["segmentation"])) for row in rows],
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
