"""Picture files to drawings and COCO results: the pipeline of `demo.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from os.path import realpath
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import utf8_name
from data.images import ImageError, read_image
from data.written import check_output_files, write_drawing, write_json
from tools.common.cli import print_skipped
from tools.common.kinds import RawPredictions
from tools.common.threads import StageTimes, exit_on_ctrl_c, ordered_map, worker_threads
from tools.predict.instances import Instances
from tools.predict.predictor import Predictor, PreparedInput, decoding_thread

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # other formats are written as .png


@dataclass(frozen=True)
class Job:
    """A picture on its way through the stages, each of which adds to it."""

    path: Path
    target: Path  # of the drawing
    image_id: int
    image: np.ndarray | None = None
    prepared: PreparedInput | None = None
    instances: Instances | None = None
    rows: tuple[dict, ...] = ()
    problem: str = ""  # why it could not be read


@dataclass
class Report:
    """The result of a run. rows: COCO results in the order of the pictures; seconds: from first to last picture."""

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

    def add(self, job: Job) -> None:
        if job.instances is None:
            self.problems.append(job.problem)
            print_skipped(job.problem)
            return
        self.pictures += 1
        self.instances += len(job.instances)
        self.rows.extend(job.rows)


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    drawings: Path | None = None,
    results: Path | None = None,
    polygons: bool = False,
    threads: int,
) -> Report:
    """Run a network over pictures; draw the instances into a folder and write them to a COCO results file.

    drawings: the folder; None draws nothing. results: the file; None writes none; polygons: with outlines.
    Reading, decoding, drawing, encoding and writing run in `threads` threads (0: none), the network in the caller's;
    at most `threads` pictures wait before the network and as many after decoding. A picture that cannot be read is
    named, counted and left out; any other error ends the run. Raises InputError if none could be read.
    """
    report = Report()
    jobs = plan_jobs(paths, drawings)
    stages = _Stages(predictor, report.times, draw=drawings is not None, encode=results is not None, polygons=polygons)
    predictor.warm_up()
    start = time.perf_counter()
    with exit_on_ctrl_c(), worker_threads(threads) as pool, decoding_thread(threads) as decoder:
        loaded = ordered_map(pool, stages.load, jobs, ahead=threads)
        raw = predictor.run_batches(loaded, lambda job: job.prepared, report.times)
        decoded = ordered_map(decoder, lambda row: stages.decode(*row), raw, ahead=2)
        finished = ordered_map(pool, stages.finish, decoded, ahead=threads)
        for job in tqdm(finished, total=len(jobs), unit="picture", disable=None):
            report.add(job)
    if not report.pictures:
        raise InputError(f"none of {len(paths)} pictures could be read; see the reasons above")
    if results is not None:
        with report.times.measure("results"):
            write_json(results, report.rows)
    report.seconds = time.perf_counter() - start
    return report


@dataclass(frozen=True)
class _Stages:
    """The stages before and after the network, with a clock."""

    predictor: Predictor
    times: StageTimes
    draw: bool
    encode: bool
    polygons: bool

    def load(self, job: Job) -> Job:
        try:
            with self.times.measure("read"):
                image = read_image(job.path)
        except ImageError as error:
            return replace(job, problem=str(error))
        with self.times.measure("preprocess"):
            return replace(job, image=image, prepared=self.predictor.prepare(image))

    def decode(self, job: Job, raw: RawPredictions | None, index: int) -> Job:
        if raw is None or job.prepared is None:
            return job
        with self.times.measure("decode"):
            return replace(job, instances=self.predictor.decode(raw, index, job.prepared))

    def finish(self, job: Job) -> Job:
        """Draw, encode and write; the result is small, because it may wait for slower pictures before it."""
        if job.instances is None:
            return job
        if self.draw:
            with self.times.measure("draw"):
                drawing = job.instances.draw(job.image)
            with self.times.measure("write"):
                write_drawing(job.target, drawing)
        rows: tuple[dict, ...] = ()
        if self.encode:
            with self.times.measure("encode"):
                found = job.instances.to_coco(job.image_id, polygons=self.polygons)
            rows = tuple({**row, "file_name": utf8_name(job.path)} for row in found)
        return replace(job, image=None, prepared=None, rows=rows)


def plan_jobs(paths: Iterable[Path], drawings: Path | None) -> list[Job]:
    """Return each picture with its drawing's path and its image id.

    The id is the number in the file's name if all names are different numbers, as in COCO, else the place.
    Raises InputError if a drawing would overwrite a picture or another file that is not a drawing.
    """
    paths = list(paths)
    taken = {realpath(path) for path in paths}  # unlike Path.resolve, it accepts circular links
    ids: Sequence[int] = [int(path.stem) for path in paths if path.stem.isdecimal()]
    if len(set(ids)) < len(paths):
        ids = range(1, len(paths) + 1)
    jobs = []
    for image_id, path in zip(ids, paths):
        target = path
        if drawings is not None:
            suffix = path.suffix if path.suffix.lower() in WRITABLE else ".png"
            target, count = drawings / f"{path.stem}{suffix}", 1
            while realpath(target) in taken:
                if realpath(target) == realpath(path):
                    raise InputError(f"{path}: its drawing would overwrite it; choose another folder with --output")
                count += 1
                target = drawings / f"{path.stem}_{count}{suffix}"
            taken.add(realpath(target))
        jobs.append(Job(path, target, image_id))
    if drawings is not None:
        check_output_files(job.target for job in jobs)
    return jobs
