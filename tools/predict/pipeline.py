"""Picture files to drawings and COCO results: the pipeline of `demo.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Callable

import numpy as np
from tqdm import tqdm

from config.errors import listed, shorten
from data.files import common_folder
from data.images import ImageError, read_image
from data.tiff_pages import count_pages
from data.written import check_output_files, find_own
from tools.common.kinds import RawPredictions
from tools.common.memory import is_out_of_memory
from tools.common.skipped import count_skipped, print_note, print_skipped
from tools.common.threads import StageTimes, exit_on_ctrl_c, ordered_map, worker_threads
from tools.predict.instances import Instances
from tools.predict.picture_files import PictureFiles, write_text
from tools.predict.predictor import Predictor, PreparedInput, decoding_thread
from tools.predict.result_files import PictureRows, ResultFiles


@dataclass(frozen=True)
class Job:
    """A picture on its way through the stages, each of which adds to it."""

    path: Path
    image_id: int
    targets: tuple[Path, ...] = ()  # a path for each of the `PictureFiles`
    image: np.ndarray | None = None
    prepared: PreparedInput | None = None
    instances: Instances | None = None
    rows: PictureRows | None = None
    problem: str = ""  # why it is skipped
    pages: int = 1  # of the file; the first one is used

    def skipped(self, error: Exception) -> Job:
        """Return the job without its picture, which cannot be read, or for which there is too little memory."""
        problem = str(error)
        if not isinstance(error, ImageError):
            remedy = "shrink it or cut it into tiles, or use --threads 0"
            problem = f"{self.path}: too large for the free memory of this machine ({shorten(problem)}); {remedy}"
        return Job(self.path, self.image_id, problem=problem)


@dataclass
class Report:
    """The result of a run.

    seconds: from first to last picture.
    """

    times: StageTimes = field(default_factory=StageTimes)
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


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    files: Sequence[PictureFiles] = (),
    results: Path | None = None,
    polygons: bool = False,
    table: Path | None = None,
    coco: Path | None = None,
    threads: int,
) -> Report:
    """Run a network over pictures; write the instances to files.

    jobs: of `plan_jobs`, with the same `files`, which are written of each picture. For all of them, unless None:
    results: a COCO results file, with outlines if `polygons`; table: a CSV file of measures; coco: an annotation file.
    Reading, decoding, drawing, encoding and writing run in `threads` threads (0: none), the network in the caller's;
    at most `threads` pictures wait before the network and as many after decoding. A picture that cannot be read, or
    for which there is too little memory, is named, counted and left out; any other error ends the run. The files of all
    pictures are written as they come: after an error or Ctrl-C they hold the pictures until then. Raises InputError if
    no picture is left.
    """
    report = Report()
    folder = common_folder(job.path.absolute().parent for job in jobs) if coco else Path()
    rows = ResultFiles(predictor.classes, folder, results=results, polygons=polygons, table=table, coco=coco)
    stages = _Stages(predictor, report.times, files, rows)
    for path, content in chain.from_iterable(kind.lists(predictor.classes.names).items() for kind in files):
        write_text(path, content)
    with (
        rows,
        exit_on_ctrl_c(before=rows.keep),
        worker_threads(threads) as pool,
        decoding_thread(threads) as decoder,
    ):
        predictor.warm_up()
        start = time.perf_counter()
        loaded = ordered_map(pool, stages.load, jobs, ahead=threads)
        raw = predictor.run_batches(loaded, lambda job: job.prepared, report.times, skip=Job.skipped, threads=threads)
        decoded = ordered_map(decoder, lambda row: stages.decode(*row), raw, ahead=2)
        finished = ordered_map(pool, stages.finish, decoded, ahead=threads)
        for job in tqdm(finished, total=len(jobs), unit="picture", disable=None):
            report.add(job)
            if job.rows is not None:
                with report.times.measure("results"):
                    rows.add(job.rows)
        count_skipped(len(report.problems), len(jobs))
    report.seconds = time.perf_counter() - start
    return report


@dataclass(frozen=True)
class _Stages:
    """The stages before and after the network, with a clock."""

    predictor: Predictor
    times: StageTimes
    files: Sequence[PictureFiles]
    rows: ResultFiles

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
        if job.instances is None or job.image is None:
            return job
        rows = self.rows.make(job.path, job.image_id, job.instances, self.times)
        for files, target in zip(self.files, job.targets):
            files.write(target, job.instances, job.image, job.path, self.times)
        return replace(job, image=None, prepared=None, rows=rows)


def _skip_unusable(job: Job, stage: Callable[..., Job], *arguments: Any) -> Job:
    """Return what a stage makes of the job; the job as skipped if it cannot be read, or memory is too small for it."""
    try:
        return stage(job, *arguments)
    except Exception as error:
        if not (isinstance(error, ImageError) or is_out_of_memory(error)):
            raise
        return job.skipped(error)


def plan_jobs(paths: Iterable[Path], files: Sequence[PictureFiles] = ()) -> list[Job]:
    """Return each picture with its image id and the paths of the files that are written of it.

    The id is that of `image_ids`. Pictures that an earlier run wrote are counted and named, if not all are such
    pictures. Raises InputError if an output would overwrite a picture or another file that our programs did not write.
    """
    paths = list(paths)
    if 0 < len(own := find_own(paths)) < len(paths):
        print_note(
            f"{len(own)} of {len(paths)} pictures are outputs of earlier runs, such as drawings or label maps: "
            f"{listed([str(path) for path in own])}; move them if they should not count"
        )
    columns = [kind.plan(paths) for kind in files]
    extra = (kind.extra_files(paths, targets) for kind, targets in zip(files, columns))
    check_output_files(chain(*columns, *extra))
    rows = zip(*columns) if columns else repeat(())
    return [Job(path, image_id, targets) for path, image_id, targets in zip(paths, image_ids(paths), rows)]


def image_ids(paths: Sequence[Path]) -> Sequence[int]:
    """Return the image id of each picture: the number in its name if all names are different numbers, else the place,
    from 1."""
    ids = [int(path.stem) for path in paths if path.stem.isdecimal()]
    return ids if len(set(ids)) == len(paths) else range(1, len(paths) + 1)
