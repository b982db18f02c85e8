"""Evaluate a network on the validation pictures, or write the submission for COCO test-dev: the work of `eval.py`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData, read_complete
from data.written import write_json, write_output
from tools.common.distributed import World
from tools.dataset.generated import draw_if_missing
from tools.evaluate.coco_metrics import (
    Evaluation,
    box_score,
    compare_instances,
    evaluate_coco,
    ground_truth,
)
from tools.evaluate.match_score import MatchScore, best_match, match_at, match_curve
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predict_records import predict_records
from tools.evaluate.report import report_files, write_report
from tools.predict.predictor import Predictor

# Masks and boxes have a results file each: if a row has both, pycocotools takes the area of the mask from the box, and
# AP by size is wrong.
RESULT_FILES = {"segmentation": "masks.json", "bbox": "boxes.json"}
SUBMISSION = "detections_test-dev2017_{}_results"  # the file name that the COCO server requires


def split_files(config: Config, output: Path, split: str) -> list[Path]:
    """List the files that `evaluate_split`, or for test-dev `write_submission`, may write into the folder `output`."""
    if split == "test-dev":
        return [output / RESULT_FILES["segmentation"], _submission_path(output, config)]
    return [*(output / name for name in RESULT_FILES.values()), *report_files(output)]


def _submission_path(output: Path, config: Config) -> Path:
    return output / f"{SUBMISSION.format(config.name)}.zip"


MatchAt = Literal["", "score", "best"]


class SplitEvaluation(NamedTuple):
    """AP, and the match score if it is wanted."""

    coco: Evaluation
    match: MatchScore | None


def read_split(config: Config, classes: ClassList, split: str, *, world: World) -> CocoData:
    """Read the pictures of a split, "val" or "test-dev", for a network with these classes.

    "val": generated pictures are drawn first, and the first process prints what is wrong with the annotations.
    Raises InputError if pictures cannot be evaluated, or the annotations have no usable instance.
    """
    if split == "test-dev":
        return read_complete(config.test_path, config.test_pre_path, classes)
    draw_if_missing(config, "val", world=world)
    data = read_complete(config.val_path, config.val_pre_path, classes)
    check_instances(data, config)
    if world.is_first:
        for line in data.problems.lines():
            print(line)
    return data


def counted_from(config: Config) -> float:
    """Return the score from which on instances count in the match score."""
    return max(config.test_cfg.score, config.eval_cfg.score)


def check_instances(data: CocoData, config: Config) -> None:
    """Raise InputError if there is nothing to find, so that AP would say nothing."""
    if not data.instances:
        raise InputError(f"{config.val_path}: has no usable instance; give a file with the annotations of the pictures")


def evaluate_split(
    predictor: Predictor, data: CocoData, output: Path, *, world: World, match: MatchAt = ""
) -> SplitEvaluation | None:
    """Compute AP on pictures with annotations, and write the results and a report into the folder `output`.

    match: also compute the match score, at `test_cfg.score` of the predictor's config or at the threshold with the
    highest S. Return None in all processes except the first.
    """
    config = predictor.config
    rows = predict_records(predictor, data.records, world=world)
    if not world.is_first:
        return None
    for key in RESULT_FILES:
        _write_results(output, rows, key)
    truth = ground_truth(data)
    evaluation = evaluate_coco(truth, rows, truth.image_ids, config.eval_cfg.max_dets)
    curve = match_curve(truth, rows, truth.image_ids) if match else []
    point = (best_match(curve) if match == "best" else match_at(curve, counted_from(config))) if match else None
    shown = {"score": point.threshold} if point else {}
    write_report(
        output,
        title=f"{config.name} on {config.val_path}",
        evaluation=evaluation,
        comparison=compare_instances(truth, rows, truth.image_ids, **shown),
        curve=curve,
        file_names={record.image_id: record.file_name for record in data.records},
        load=PictureLoader(data.records, rows, truth, predictor.classes, config.data.stretch).load,
    )
    return SplitEvaluation(evaluation, point)


def write_submission(predictor: Predictor, data: CocoData, output: Path, *, world: World) -> Path | None:
    """Predict the pictures of COCO test-dev, write the zip file of masks for the COCO server, and return its path.

    Return None in all processes except the first.
    """
    rows = predict_records(predictor, data.records, world=world)
    if not world.is_first:
        return None
    path = _submission_path(output, predictor.config)
    masks = _write_results(output, rows, "segmentation")
    with write_output(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(masks, path.with_suffix(".json").name)
    return path


def _write_results(output: Path, rows: Sequence[dict], key: str) -> Path:
    """Write the masks (key: "segmentation") or the boxes ("bbox") of all rows as COCO results; return the path."""
    path = output / RESULT_FILES[key]
    keys = ("image_id", "category_id", key)
    score_of = box_score if key == "bbox" else itemgetter("score")
    write_json(path, [{**{name: row[name] for name in keys}, "score": score_of(row)} for row in rows])
    return path
