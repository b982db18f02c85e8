"""Predict all pictures of a data set as COCO results; several processes share the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from config.errors import InputError
from data.coco_pictures import Record, read_record_image
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_threads
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
            return record, predictor.prepare(read_record_image(record, predictor.config.data.stretch))
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
            prepared, lambda item: item[1], batch_size=predictor.config.eval_cfg.batch_size, threads=threads
        )
        rows = ordered_map(decoder, encode, predicted, ahead=2)
        bar = {"total": len(records), "unit": "picture", "desc": "evaluation", "leave": False}
        return list(tqdm(rows, disable=None if world.is_first else True, **bar))
