"""Predict all pictures of a data set as COCO results; several processes share the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paddle import nn
from tqdm import tqdm

from config.base import Config
from data.class_lists import ClassList
from data.coco_pictures import Record, read_record_image
from data.images import write_image
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_threads
from tools.evaluate.coco_metrics import GroundTruth, mask_precision
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predictions import draw_predictions
from tools.predict.load import network_predictor
from tools.predict.predictor import DEFAULT_THREADS, Predictor, PreparedInput, decoding_thread


def predict_records(
    predictor: Predictor, records: Sequence[Record], *, world: World = SINGLE_PROCESS, threads: int = DEFAULT_THREADS
) -> list[dict]:
    """Return the COCO result rows of all pictures, in the order of the records; each process predicts a share of them.

    The first process gets all rows, the others get an empty list. Raises InputError if a picture cannot be read or has
    another size than annotated, because AP without it would be the AP of another data set.
    """
    own = records[world.rank :: world.size]
    parts = world.gather(_rows_by_picture(predictor, own, world, threads))
    if not world.is_first:
        return []
    by_picture = dict(rows for part in parts for rows in part)
    return [row for record in records for row in by_picture[record.image_id]]


def _rows_by_picture(
    predictor: Predictor, records: Sequence[Record], world: World, threads: int
) -> list[tuple[int, list[dict]]]:
    with worker_threads(threads) as pool, decoding_thread(threads) as decoder:
        prepared = ordered_map(
            pool, lambda record: (record, predictor.prepare(read_record_image(record))), records, ahead=threads
        )
        predicted = predictor.run_batches(
            prepared, lambda item: item[1], batch_size=predictor.config.eval_cfg.batch_size
        )

        def encode(row: tuple[tuple[Record, PreparedInput], Any, int]) -> tuple[int, list[dict]]:
            (record, picture), raw, index = row
            return record.image_id, predictor.decode(raw, index, picture).to_coco(record.image_id)

        rows = ordered_map(decoder, encode, predicted, ahead=2)
        bar = {"total": len(records), "unit": "picture", "desc": "evaluation", "leave": False}
        return list(tqdm(rows, disable=None if world.is_first else True, **bar))


class MaskAP(NamedTuple):
    """Mask AP, and mask AP at IoU 0.5, both 0 to 1."""

    ap: float
    ap50: float


def mask_ap(
    config: Config,
    classes: ClassList,
    records: Sequence[Record],
    truth: GroundTruth | None,
    *,
    world: World,
    drawing: Path | None = None,
) -> Callable[[nn.Layer], MaskAP]:
    """Return a function that computes the mask AP of a network on these pictures, the same in all processes.

    truth: needed in the first process only. drawing: file of a drawing of some predictions, written at each call.
    """

    def evaluate(network: nn.Layer) -> MaskAP:
        predictor = network_predictor(network, config, classes, score=config.eval_cfg.score)
        threads = 1 if world.size > 1 else DEFAULT_THREADS
        rows = predict_records(predictor, records, world=world, threads=threads)
        scores = None
        if world.is_first:
            assert truth is not None  # the first process has it
            summary = mask_precision(truth, rows, {record.image_id for record in records}).summary
            scores = MaskAP(summary["AP"] or 0.0, summary["AP50"] or 0.0)
            if drawing:
                loader = PictureLoader(records, rows, truth, classes)
                write_image(drawing, draw_predictions(records, loader, score=config.test_cfg.score))
        return world.gather(scores)[0]

    return evaluate
