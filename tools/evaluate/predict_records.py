"""Predict all pictures of a data set as COCO results; several processes share the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paddle import nn
from tqdm import tqdm

from config.base import Config
from data.class_lists import ClassList
from data.coco_pictures import Record, read_record_image
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_threads
from tools.evaluate.coco_metrics import GroundTruth, mask_precision
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


def mask_ap(
    config: Config, classes: ClassList, records: Sequence[Record], truth: GroundTruth | None, *, world: World
) -> Callable[[nn.Layer], float]:
    """Return a function that computes the mask AP of a network on these pictures, 0 to 1, the same in all processes.

    truth: needed in the first process only.
    """

    def evaluate(network: nn.Layer) -> float:
        predictor = network_predictor(network, config, classes, score=config.eval_cfg.score)
        threads = 1 if world.size > 1 else DEFAULT_THREADS
        rows = predict_records(predictor, records, world=world, threads=threads)
        ap = None
        if world.is_first:
            assert truth is not None  # the first process has it
            ap = mask_precision(truth, rows, {record.image_id for record in records}).summary["AP"]
        return world.gather(ap)[0] or 0.0

    return evaluate
