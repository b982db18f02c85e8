"""Files in, drawings and COCO results out: the pipeline behind `demo.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import write_whole
from data.images import ImageError, read_image, write_image
from model.solov2 import RawPredictions
from tools.pipeline import StageTimes, ordered_map
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
    output: Path,
    draw: bool = True,
    rows: bool = False,
    polygons: bool = False,
    threads: int,
) -> Report:
    """Run a network over pictures and draw what it finds into the folder `output`.

    rows: collect COCO results as well; polygons: each with its outline. Reading, decoding, drawing, encoding and
    writing run in `threads` threads, the network in the caller's; not more than a few pictures are in memory at once.
    A picture that cannot be read is named, counted and left out; any other error ends the run.
    """
    report = Report()
    jobs = _jobs(paths, output) if draw else _jobs(paths)
    predictor.warm_up()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        try:
            loaded = ordered_map(pool, lambda job: _load(job, predictor, report.times), jobs, ahead=2 * threads)
            predicted = _through_network(loaded, predictor, report.times)
            finished = ordered_map(
                pool,
                lambda item: _finish(*item, predictor, report.times, draw=draw, rows=rows, polygons=polygons),
                predicted,
                ahead=threads,
            )
            _collect(tqdm(finished, total=len(jobs), unit="picture", disable=None), report)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    report.seconds = time.perf_counter() - start
    return report


def write_json(path: Path, content: object) -> None:
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _jobs(paths: Sequence[Path], output: Path | None = None) -> list[Job]:
    """Where each picture goes, and its image id: the number its name is made of, as in COCO, or its place in line."""
    taken = {path.resolve() for path in paths}
    jobs = []
    for place, path in enumerate(paths, start=1):
        target = path
        if output is not None:
            suffix = path.suffix if path.suffix.lower() in WRITABLE else ".png"
            target, count = output / f"{path.stem}{suffix}", 1
            while target.resolve() in taken:
                if target.resolve() == path.resolve():
                    raise InputError(f"{path}: its drawing would replace it; give another folder with --output")
                count += 1
                target = output / f"{path.stem}_{count}{suffix}"
            taken.add(target.resolve())
        jobs.append(Job(path, target, int(path.stem) if path.stem.isdecimal() else place))
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
    *,
    draw: bool,
    rows: bool,
    polygons: bool,
) -> Finished:
    if raw is None:
        return job, 0, []
    with times.measure("decode"):
        instances = predictor.finish(raw, index, job.prepared)
    if draw:
        with times.measure("draw"):
            drawing = instances.draw(job.image)
    coco_rows = []
    with times.measure("write"):
        if draw:
            write_image(job.target, drawing)
        if rows:
            coco_rows = [
                {**row, "file_name": job.path.name} for row in instances.to_coco(job.image_id, polygons=polygons)
            ]
    # The picture itself is let go here: the queue of finished work holds results only.
    return Job(job.path, job.target, job.image_id, problem=job.problem), len(instances), coco_rows


def _collect(finished: Iterable[Finished], report: Report) -> None:
    for job, count, rows in finished:
        if job.problem:
            report.problems.append(job.problem)
            tqdm.write(f"skipped {job.problem}")
            continue
        report.pictures += 1
        report.instances += count
        report.rows.extend(rows)
