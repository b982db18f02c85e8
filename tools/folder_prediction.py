"""Files in, drawings and COCO results out: the pipeline behind `demo.py`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import write_whole
from data.images import ImageError, read_image, write_image
from model.solov2 import RawPredictions
from tools.cli import one_line
from tools.pipeline import StageTimes, ordered_map, prompt_interruption, worker_threads
from tools.predictor import Predictor, Prepared, batched

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # other formats are written as .png


@dataclass(frozen=True)
class Job:
    """A picture on its way; `prepared` is None where it could not be read."""

    path: Path
    target: Path
    image_id: int
    image: np.ndarray | None = None
    prepared: Prepared | None = None
    problem: str = ""


@dataclass(frozen=True)
class RowOptions:
    """Whether COCO rows are wanted, and whether with outlines."""

    wanted: bool
    polygons: bool


@dataclass
class Report:
    """What a run did. rows: COCO results in the order of the pictures; seconds: from the first to the last picture."""

    times: StageTimes = field(default_factory=StageTimes)
    rows: list[dict] = field(default_factory=list)
    pictures: int = 0
    instances: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def statistics(self) -> dict:
        return {
            "pictures": self.pictures,
            "skipped": len(self.problems),
            "instances": self.instances,
            "pictures_per_second": self.pictures / self.seconds if self.seconds else 0.0,
            "milliseconds": self.times.summary(),
        }


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    drawings: Path | None = None,
    results: Path | None = None,
    polygons: bool = False,
    threads: int,
) -> Report:
    """Run a network over pictures, draw what it finds into a folder and write it to a COCO results file.

    drawings: the folder; None draws nothing. results: the file; None writes none; polygons: with the outlines.
    Reading, decoding, drawing, encoding and writing run in `threads` threads (0: none), the network in the caller's;
    not more than a few pictures are in memory at once. A picture that cannot be read is named, counted and left out;
    any other error ends the run.
    """
    report = Report()
    jobs = _jobs(paths, drawings)
    rows = RowOptions(wanted=results is not None, polygons=polygons)
    predictor.warm_up()
    start = time.perf_counter()
    with prompt_interruption(), worker_threads(threads) as pool:
        loaded = ordered_map(pool, lambda job: _load(job, predictor, report.times), jobs, ahead=2 * threads)
        predicted = _through_network(loaded, predictor, report.times)
        finished = ordered_map(
            pool, lambda item: _finish(*item, predictor, report.times, drawings, rows), predicted, ahead=threads
        )
        _collect(tqdm(finished, total=len(jobs), unit="picture", disable=None), report)
    if results is not None:
        with report.times.measure("results"):
            write_json(results, report.rows)
    report.seconds = time.perf_counter() - start
    return report


def write_json(path: Path, content: object) -> None:
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _jobs(paths: Sequence[Path], drawings: Path | None) -> list[Job]:
    """Where each picture goes, and its image id: its number where all are named by one, as in COCO, else its place."""
    taken = {path.resolve() for path in paths}
    ids = [int(path.stem) for path in paths if path.stem.isdecimal()]
    if len(set(ids)) < len(paths):
        ids = range(1, len(paths) + 1)
    jobs = []
    for image_id, path in zip(ids, paths):
        target = path
        if drawings is not None:
            suffix = path.suffix if path.suffix.lower() in WRITABLE else ".png"
            target, count = drawings / f"{path.stem}{suffix}", 1
            while target.resolve() in taken:
                if target.resolve() == path.resolve():
                    raise InputError(f"{path}: its drawing would replace it; give another folder with --output")
                count += 1
                target = drawings / f"{path.stem}_{count}{suffix}"
            taken.add(target.resolve())
        jobs.append(Job(path, target, image_id))
    return jobs


def _load(job: Job, predictor: Predictor, times: StageTimes) -> Job:
    try:
        with times.measure("read"):
            image = read_image(job.path)
    except ImageError as error:
        return Job(job.path, job.target, job.image_id, problem=str(error))
    with times.measure("preprocess"):
        prepared = predictor.prepare(image)
    return Job(job.path, job.target, job.image_id, image, prepared)


Predicted = tuple[Job, Union[RawPredictions, None], int]


def _through_network(jobs: Iterable[Job], predictor: Predictor, times: StageTimes) -> Iterator[Predicted]:
    for batch in batched(jobs, predictor.config.test_cfg.batch_size):
        prepared = [job.prepared for job in batch if job.prepared is not None]
        raw = None
        if prepared:
            with times.measure("network", pictures=len(prepared)):
                raw = predictor.run(prepared)
        position = iter(range(len(prepared)))
        yield from ((job, raw, next(position)) if job.prepared is not None else (job, None, 0) for job in batch)


Finished = tuple[Job, int, list[dict]]  # with the number of instances and the COCO rows


def _finish(
    job: Job,
    raw: RawPredictions | None,
    index: int,
    predictor: Predictor,
    times: StageTimes,
    drawings: Path | None,
    rows: RowOptions,
) -> Finished:
    if raw is None:
        return job, 0, []
    with times.measure("decode"):
        instances = predictor.finish(raw, index, job.prepared)
    if drawings is not None:
        with times.measure("draw"):
            drawing = instances.draw(job.image)
        with times.measure("write"):
            write_image(job.target, drawing)
    coco_rows = []
    if rows.wanted:
        with times.measure("encode"):
            found = instances.to_coco(job.image_id, polygons=rows.polygons)
        coco_rows = [{**row, "file_name": job.path.as_posix()} for row in found]
    # The picture itself is let go here: the queue of finished work holds results only.
    return Job(job.path, job.target, job.image_id, problem=job.problem), len(instances), coco_rows


def _collect(finished: Iterable[Finished], report: Report) -> None:
    for job, count, rows in finished:
        if job.problem:
            report.problems.append(job.problem)
            tqdm.write(f"skipped {one_line(job.problem)}", file=sys.stderr)
            continue
        report.pictures += 1
        report.instances += count
        report.rows.extend(rows)
