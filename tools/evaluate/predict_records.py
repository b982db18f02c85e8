"""Predict all pictures of a data set as COCO results; several processes share the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paddle import nn
from tqdm import tqdm

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco_pictures import Record, read_record_image
from data.images import write_image
from tools.common.cli import print_skipped
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_threads
from tools.evaluate.coco_metrics import GroundTruth, mask_precision
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predictions import draw_predictions
from tools.predict.load import network_predictor
from tools.predict.predictor import DEFAULT_THREADS, Predictor, PreparedInput, decoding_thread


def predict_records(
    predictor: Predictor,
    records: Sequence[Record],
    *,
    world: World = SINGLE_PROCESS,
    threads: int = DEFAULT_THREADS,
    unreadable: dict[int, str] | None = None,
) -> list[dict]:
    """Return the COCO result rows of all pictures, in the order of the records; each process predicts a share of them.

    The first process gets all rows, the others get an empty list.
    unreadable: gets the reason for each picture that cannot be read or has another size than annotated, by image id.
        None: raise InputError for the first one, because AP without it would be the AP of another data set.
    """
    problems: dict[int, str] | None = None if unreadable is None else {}
    rows = _rows_by_picture(predictor, records[world.rank :: world.size], world, threads, problems)
    parts = world.gather((rows, problems))
    if not world.is_first:
        return []
    if unreadable is not None:
        for _, own in parts:
            unreadable.update(own)
    by_picture = dict(row for rows, _ in parts for row in rows)
    return [row for record in records for row in by_picture[record.image_id]]


def _rows_by_picture(
    predictor: Predictor, records: Sequence[Record], world: World, threads: int, unreadable: dict[int, str] | None
) -> list[tuple[int, list[dict]]]:
    def read(record: Record) -> tuple[Record, PreparedInput | None]:
        try:
            return record, predictor.prepare(read_record_image(record))
        except InputError as error:
            if unreadable is None:
                raise
            unreadable[record.image_id] = str(error)
            return record, None

    def encode(row: tuple[tuple[Record, PreparedInput | None], Any, int]) -> tuple[int, list[dict]]:
        (record, picture), raw, index = row
        rows = predictor.decode(raw, index, picture).to_coco(record.image_id) if picture else []
        return record.image_id, rows

    with worker_threads(threads) as pool, decoding_thread(threads) as decoder:
        prepared = ordered_map(pool, read, records, ahead=threads)
        predicted = predictor.run_batches(
            prepared, lambda item: item[1], batch_size=predictor.config.eval_cfg.batch_size
        )
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

    Pictures that cannot be read are named once and left out, so that they do not end a training.
    truth: needed in the first process only. drawing: file of a drawing of some predictions, written at each call.
    """
    named: set[int] = set()

    def evaluate(network: nn.Layer) -> MaskAP:
        predictor = network_predictor(network, config, classes, score=config.eval_cfg.score)
        threads = 1 if world.size > 1 else DEFAULT_THREADS
        unreadable: dict[int, str] = {}
        rows = predict_records(predictor, records, world=world, threads=threads, unreadable=unreadable)
        if len(unreadable) == len(records):
            raise InputError(
                f"{next(iter(unreadable.values()))}; no validation picture can be read, check their folder"
            )
        for image_id in sorted(unreadable.keys() - named):
            print_skipped(f"{unreadable[image_id]}; it is left out of the evaluation")
        named.update(unreadable)
        readable = [record for record in records if record.image_id not in unreadable]
        scores = None
        if world.is_first:
            assert truth is not None  # the first process has it
            summary = mask_precision(truth, rows, {record.image_id for record in readable}).summary
            scores = MaskAP(summary["AP"] or 0.0, summary["AP50"] or 0.0)
            if drawing:
                loader = PictureLoader(readable, rows, truth, classes)
                write_image(drawing, draw_predictions(readable, loader, score=config.test_cfg.score))
        return world.gather(scores)[0]

    return evaluate
