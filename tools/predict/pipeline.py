"""Picture files to drawings and COCO results: the pipeline of `demo.py`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from os.path import realpath
from pathlib import Path
from typing import Any, Callable

import numpy as np
from tqdm import tqdm

from config.errors import InputError, listed, shorten
from data.files import utf8_name
from data.images import ImageError, read_image, read_stored_values
from data.tiff_pages import count_pages
from data.written import check_output_files, find_own, write_drawing, write_json
from tools.common.kinds import RawPredictions
from tools.common.memory import is_out_of_memory
from tools.common.skipped import count_skipped, print_note, print_skipped
from tools.common.threads import StageTimes, exit_on_ctrl_c, ordered_map, worker_threads
from tools.predict.instances import Instances
from tools.predict.measures import label_map, measure, write_table
from tools.predict.predictor import Predictor, PreparedInput, decoding_thread

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # other formats are written as .png


@dataclass(frozen=True)
class Job:
    """A picture on its way through the stages, each of which adds to it."""

    path: Path
    target: Path | None  # of the drawing
    image_id: int
    label_target: Path | None = None  # of the label map
    image: np.ndarray | None = None
    prepared: PreparedInput | None = None
    instances: Instances | None = None
    rows: tuple[dict, ...] = ()
    measures: tuple[dict, ...] = ()
    problem: str = ""  # why it is skipped
    pages: int = 1  # of the file; the first one is used

    def skipped(self, error: Exception) -> Job:
        """Return the job without its picture, which cannot be read, or for which there is too little memory."""
        problem = str(error)
        if not isinstance(error, ImageError):
            remedy = "shrink it or cut it into tiles, or use --threads 0"
            problem = f"{self.path}: too large for the free memory of this machine ({shorten(problem)}); {remedy}"
        return Job(self.path, self.target, self.image_id, problem=problem)


@dataclass
class Report:
    """The result of a run.

    rows: COCO results in the order of the pictures; measures: rows of the table of instances; seconds: from first to
    last picture.
    """

    times: StageTimes = field(default_factory=StageTimes)
    rows: list[dict] = field(default_factory=list)
    measures: list[dict] = field(default_factory=list)
    pictures: int = 0
    empty_pictures: int = 0  # without instances
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
        if job.pages > 1:
            print_note(f"{job.path}: the first of {job.pages} pages is used; save the others as files of their own")
        self.pictures += 1
        self.empty_pictures += not len(job.instances)
        self.instances += len(job.instances)
        self.rows.extend(job.rows)
        self.measures.extend(job.measures)


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    results: Path | None = None,
    polygons: bool = False,
    table: Path | None = None,
    threads: int,
) -> Report:
    """Run a network over pictures; draw the instances and write them to a COCO results file and a table.

    jobs: of `plan_jobs`. results: the file; None writes none; polygons: with outlines. table: a CSV file of measures.
    Reading, decoding, drawing, encoding and writing run in `threads` threads (0: none), the network in the caller's;
    at most `threads` pictures wait before the network and as many after decoding. A picture that cannot be read, or
    for which there is too little memory, is named, counted and left out; any other error ends the run. Raises
    InputError if no picture is left.
    """
    report = Report()
    stages = _Stages(predictor, report.times, encode=results is not None, polygons=polygons, table=table is not None)
    with exit_on_ctrl_c(), worker_threads(threads) as pool, decoding_thread(threads) as decoder:
        predictor.warm_up()
        start = time.perf_counter()
        loaded = ordered_map(pool, stages.load, jobs, ahead=threads)
        raw = predictor.run_batches(loaded, lambda job: job.prepared, report.times, skip=Job.skipped, threads=threads)
        decoded = ordered_map(decoder, lambda row: stages.decode(*row), raw, ahead=2)
        finished = ordered_map(pool, stages.finish, decoded, ahead=threads)
        for job in tqdm(finished, total=len(jobs), unit="picture", disable=None):
            report.add(job)
    count_skipped(len(report.problems), len(jobs))
    if results is not None:
        with report.times.measure("results"):
            write_json(results, report.rows)
    if table is not None:
        write_table(table, report.measures)
    report.seconds = time.perf_counter() - start
    return report


@dataclass(frozen=True)
class _Stages:
    """The stages before and after the network, with a clock."""

    predictor: Predictor
    times: StageTimes
    encode: bool
    polygons: bool
    table: bool

    def load(self, job: Job) -> Job:
        return _skip_unusable(job, self._load)

    def decode(self, job: Job, raw: RawPredictions | None, index: int) -> Job:
        return _skip_unusable(job, self._decode, raw, index)

    def finish(self, job: Job) -> Job:
        """Encode, draw and write; the result is small, because it may wait for slower pictures before it."""
        return _skip_unusable(job, self._finish)

    def _load(self, job: Job) -> Job:
        with self.times.measure("read"):
            image = read_image(job.path, self.predictor.config.data.stretch)
        pages = count_pages(job.path)
        with self.times.measure("preprocess"):
            return replace(job, image=image, prepared=self.predictor.prepare(image), pages=pages)

    def _decode(self, job: Job, raw: RawPredictions | None, index: int) -> Job:
        if raw is None or job.prepared is None:
            return job
        with self.times.measure("decode"):
            return replace(job, instances=self.predictor.decode(raw, index, job.prepared))

    def _finish(self, job: Job) -> Job:
        if job.instances is None:
            return job
        rows: tuple[dict, ...] = ()
        if self.encode:
            with self.times.measure("encode"):
                found = job.instances.to_coco(job.image_id, polygons=self.polygons)
            rows = tuple({**row, "file_name": utf8_name(job.path)} for row in found)
        measures: tuple[dict, ...] = ()
        if self.table:
            with self.times.measure("measure"):
                measures = tuple(measure(job.instances, self._values_of(job), utf8_name(job.path)))
        if job.label_target is not None:
            with self.times.measure("write"):
                write_drawing(job.label_target, label_map(job.instances))
        if job.target is not None:  # last, so that a picture that is skipped leaves no drawing
            with self.times.measure("draw"):
                drawing = job.instances.draw(job.image)
            with self.times.measure("write"):
                write_drawing(job.target, drawing)
        return replace(job, image=None, prepared=None, rows=rows, measures=measures)

    def _values_of(self, job: Job) -> np.ndarray:
        """Return the picture as its file stores it, which may have more than the 8 bits of the network's input."""
        return read_stored_values(job.path)


def _skip_unusable(job: Job, stage: Callable[..., Job], *arguments: Any) -> Job:
    """Return what a stage makes of the job; the job as skipped if it cannot be read, or memory is too small for it."""
    try:
        return stage(job, *arguments)
    except Exception as error:
        if not (isinstance(error, ImageError) or is_out_of_memory(error)):
            raise
        return job.skipped(error)


def plan_jobs(paths: Iterable[Path], drawings: Path | None = None, label_maps: Path | None = None) -> list[Job]:
    """Return each picture with the paths of its drawing and its label map, and its image id.

    drawings, label_maps: two folders; None writes none. The id is that of `image_ids`.
    Pictures that an earlier run wrote are counted and named, if not all are such pictures. Raises InputError if an
    output would overwrite a picture or another file that our programs did not write.
    """
    paths = list(paths)
    if 0 < len(own := find_own(paths)) < len(paths):
        print_note(
            f"{len(own)} of {len(paths)} pictures are outputs of earlier runs, such as drawings or label maps: "
            f"{listed([str(path) for path in own])}; move them if they should not count"
        )
    suffixes = [path.suffix if path.suffix.lower() in WRITABLE else ".png" for path in paths]
    targets = _plan_targets(paths, drawings, suffixes, "--output")
    label_targets = _plan_targets(paths, label_maps, [".png"] * len(paths), "--label-masks")
    check_output_files(target for target in (*targets, *label_targets) if target is not None)
    return [Job(*item) for item in zip(paths, targets, image_ids(paths), label_targets)]


def image_ids(paths: Sequence[Path]) -> Sequence[int]:
    """Return the image id of each picture: the number in its name if all names are different numbers, else the place,
    from 1."""
    ids = [int(path.stem) for path in paths if path.stem.isdecimal()]
    return ids if len(set(ids)) == len(paths) else range(1, len(paths) + 1)


def _plan_targets(
    paths: Sequence[Path], folder: Path | None, suffixes: Sequence[str], option: str
) -> Sequence[Path | None]:
    """Return a path in the folder for what is written of each picture, all different; None without a folder.

    It has the name of the picture, or for another picture of this name, which is printed, a number at the end, but no
    name that a third picture has. option: the one that chooses the folder, for the message.
    """
    if folder is None:
        return [None] * len(paths)
    taken = {realpath(path) for path in paths}  # unlike Path.resolve, it accepts circular links
    named = [folder / f"{path.stem}{suffix}" for path, suffix in zip(paths, suffixes)]
    of_others = {realpath(target) for target in named}
    counts: dict[str, int] = defaultdict(lambda: 1)
    targets, numbered = [], []
    for path, target in zip(paths, named):
        if realpath(target) == realpath(path):
            raise InputError(f"{path}: would be overwritten; choose another folder with {option}")
        name = target.name
        while realpath(target) in taken or (target.name != name and realpath(target) in of_others):
            counts[name] += 1  # counted on, because thousands of folders may hold the same name
            target = folder / f"{path.stem}_{counts[name]}{target.suffix}"
        taken.add(realpath(target))
        targets.append(target)
        if target.name != name:
            numbered.append(f"{target.name} of {path}")
    if numbered:
        print_note(f"{option}: pictures of one name have outputs with numbers: {listed(numbered)}")
    return targets
