"""Predict pictures and videos and write drawings and results: the pipeline of `demo.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Callable, TypeVar

from tqdm import tqdm

from data.addresses import fetch_picture, file_name
from data.files import common_folder, temporary_folder
from data.geometry import Window
from data.images import ImageError, read_image
from data.picture_windows import WholePicture, open_windows
from data.tiff_pages import count_pages
from data.video_output import VideoOutputs
from tools.common.kinds import RawPredictions
from tools.common.memory import is_out_of_memory
from tools.common.skipped import count_skipped, print_note, print_skipped
from tools.common.threads import StageTimes, exit_on_ctrl_c, ordered_map, read_ahead, worker_threads
from tools.predict.instances import Instances
from tools.predict.jobs import Job, Jobs
from tools.predict.picture_files import PictureFiles, write_text
from tools.predict.predictor import Predictor, decoding_thread
from tools.predict.reduced import draw_reduced
from tools.predict.result_files import ResultFiles
from tools.predict.tiles import Tile, TiledPicture, Tiling

Picture = TypeVar("Picture")


@dataclass
class Report:
    """The result of a run.

    unit: "frame" if all were of videos, else "picture". pictures: frames count too. seconds: from the first to the
    last.
    """

    unit: str = "picture"
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
            print_note(f"{job.name}: the first of {job.pages} pages is used; save the others as files of their own")
        self.pictures += 1
        self.empty_pictures += not len(job.instances)
        self.instances += len(job.instances)


def predict_files(
    predictor: Predictor,
    jobs: Jobs,
    *,
    files: Sequence[PictureFiles] = (),
    results: Path | None = None,
    polygons: bool = False,
    table: Path | None = None,
    coco: Path | None = None,
    tiling: Tiling | None = None,
    threads: int,
) -> Report:
    """Run a network over pictures and videos; write the instances to files.

    jobs: of `plan_jobs`, with the same `files`, which are written of each picture; videos get one drawing of all
    frames. For all of them, unless None: results: a COCO results file, with outlines if `polygons`, or JSON lines for
    the suffix .jsonl; table: a CSV file of measures; coco: an annotation file.
    tiling: how pictures larger than a tile are cut; None cuts none. Their drawings are reduced.
    Reading, decoding, drawing, encoding and writing run in `threads` threads (0: none), the network in the caller's;
    at most `threads` pictures wait before the network and as many after decoding. A picture that cannot be read, or
    for which there is too little memory, is named, counted and left out; any other error ends the run. The files of all
    pictures are written as they come: after an error or Ctrl-C they hold the pictures until then. Raises InputError if
    no picture is left.
    """
    report = Report(jobs.unit)
    folder = common_folder(path.absolute().parent for path in jobs.files()) if coco else Path()
    rows = ResultFiles(predictor.classes, folder, results=results, polygons=polygons, table=table, coco=coco)
    videos = VideoOutputs()
    for path, content in chain.from_iterable(kind.lists(predictor.classes.names).items() for kind in files):
        write_text(path, content)

    def keep() -> None:
        rows.keep()
        videos.keep()

    with (
        rows,
        videos,
        _fetched_files(jobs) as fetched,
        exit_on_ctrl_c(before=keep),
        worker_threads(threads) as pool,
        decoding_thread(threads) as decoder,
        ExitStack() as stack,
    ):
        stages = _Stages(predictor, report.times, files, rows, fetched)
        predictor.warm_up()
        start = time.perf_counter()
        bar = stack.enter_context(_progress(jobs.total, report.unit, has_tiles=tiling is not None))
        parts = stages.split(jobs, tiling) if tiling else jobs
        if tiling and threads:
            parts = stack.enter_context(read_ahead(parts, ahead=threads))
        loaded = ordered_map(pool, stages.load, parts, ahead=threads)
        raw = predictor.run_batches(loaded, lambda job: job.prepared, report.times, skip=Job.skipped, threads=threads)
        decoded = ordered_map(decoder, lambda row: stages.decode(*row), raw, ahead=2)
        finished = ordered_map(pool, stages.finish, _collect_tiles(decoded, bar), ahead=threads)
        for job in finished:
            bar.update(job.tile is None)
            report.add(job)
            if job.rows is not None:
                with report.times.measure("results"):
                    rows.add(job.rows)
            if job.drawing is not None:
                with report.times.measure("write"):
                    _add_frame(videos, job)
        inputs = "inputs" if jobs.videos else "pictures"
        count_skipped(len(report.problems), report.pictures + len(report.problems), inputs)
    report.seconds = time.perf_counter() - start
    return report


def _progress(total: int | None, unit: str, *, has_tiles: bool) -> tqdm:
    """Return a progress bar; with tiles it counts parts of pictures."""
    rounded = "{percentage:3.0f}%|{bar}| {n:.2f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
    return tqdm(total=total, unit=unit, disable=None, bar_format=rounded if has_tiles and total else None)


def _collect_tiles(jobs: Iterable[Job], bar: tqdm) -> Iterator[Job]:
    """Yield pictures, those cut into tiles with the instances of all their tiles; a skipped tile skips its picture."""
    found: list[tuple[Tile, Instances]] = []
    skipped = None
    for job in jobs:
        if job.tile is None:
            yield job
            continue
        bar.update(job.tile.share)
        if job.instances is None:
            skipped = skipped or job
        else:
            found.append((job.tile, job.instances))
        if job.tile.is_last:
            yield skipped or replace(job, instances=None, of_tiles=tuple(found))
            found, skipped = [], None


def _add_frame(videos: VideoOutputs, job: Job) -> None:
    """Append a drawn frame to its video."""
    assert job.frame is not None and job.frame.target is not None and job.drawing is not None
    until = job.frame.seconds if job.frame.is_live else None
    videos.add(job.frame.target, job.drawing, rate=job.frame.rate, until=until)


@contextmanager
def _fetched_files(jobs: Jobs) -> Iterator[Path]:
    """Yield a folder for pictures from addresses during the block; the current folder if there are none."""
    with ExitStack() as stack:
        yield stack.enter_context(temporary_folder()) if jobs.has_addresses else Path()


@dataclass(frozen=True)
class _Stages:
    """The stages before and after the network.

    times: receives the time of each. fetched: the folder for pictures from addresses.
    """

    predictor: Predictor
    times: StageTimes
    files: Sequence[PictureFiles]
    rows: ResultFiles
    fetched: Path

    def load(self, job: Job) -> Job:
        return _skip_unusable(job, self._load)

    def decode(self, job: Job, raw: RawPredictions | None, index: int) -> Job:
        return _skip_unusable(job, self._decode, raw, index)

    def finish(self, job: Job) -> Job:
        """Encode, draw and write; the result is small, because it may wait for slower pictures before it."""
        return _skip_unusable(job, self._finish)

    def _load(self, job: Job) -> Job:
        if job.problem:  # a video that cannot be read
            return job
        image = job.image
        if image is None:
            with self.times.measure("read"):
                if job.picture and job.tile:
                    image = job.picture.read(job.tile)
                else:
                    job, image = self._read(job, read_image)
        with self.times.measure("preprocess"):
            prepared = self.predictor.prepare(image)
        return replace(job, image=None if job.tile else image, prepared=prepared)

    def _read(self, job: Job, read: Callable[..., Picture]) -> tuple[Job, Picture]:
        """Return the job with the path and the pages of its file, and what `read` returns for it."""
        path = job.path or self.fetched / f"{job.image_id}{file_name(job.address).suffix}"
        if job.path is None:
            fetch_picture(job.address, path)
        try:
            picture = read(path, self.predictor.config.data.stretch)
        except ImageError as error:
            raise ImageError(job.name, error.reason) from error
        return replace(job, path=path, pages=count_pages(path)), picture

    def split(self, jobs: Iterable[Job], tiling: Tiling) -> Iterator[Job]:
        """Yield the jobs, for each picture larger than a tile those of its tiles."""
        for job in jobs:
            job = job if job.problem else _skip_unusable(job, self._open, tiling)
            if job.picture is None:
                yield job
            else:
                yield from (replace(job, tile=tile) for tile in job.picture.tiles())

    def _open(self, job: Job, tiling: Tiling) -> Job:
        """Return the job with the picture that is cut into tiles, or with the image if it fits into one."""
        with self.times.measure("open"):
            if job.image is None:
                job, windows = self._read(job, open_windows)
            else:
                windows = WholePicture(job.image)
            if tiling.fits(windows.size):
                return replace(job, image=windows.read(Window(0, 0, *windows.size)))
            return replace(job, image=None, picture=TiledPicture(windows, tiling))

    def _decode(self, job: Job, raw: RawPredictions | None, index: int) -> Job:
        if raw is None or job.prepared is None:
            return job
        with self.times.measure("decode"):
            return replace(job, instances=self.predictor.decode(raw, index, job.prepared))

    def _finish(self, job: Job) -> Job:
        if job.picture and job.of_tiles:
            with self.times.measure("join"):
                joined = job.picture.join(job.of_tiles)
            job = replace(job, instances=joined, image=job.picture.overview.image)
        if job.instances is None or job.image is None:
            return job
        rows = self.rows.make(job, self.times)
        for files, target in zip(self.files, job.targets):
            assert job.path is not None  # frames have no targets
            files.write(target, job.instances, job.image, job.path, self.times)
        drawing = None
        if job.frame is not None and job.frame.target is not None:
            with self.times.measure("draw"):
                drawing = draw_reduced(job.instances, job.image)
        if job.picture:
            job.picture.windows.close()
        if job.address and job.path is not None:
            job.path.unlink()
        return replace(job, image=None, prepared=None, picture=None, of_tiles=(), rows=rows, drawing=drawing)


def _skip_unusable(job: Job, stage: Callable[..., Job], *arguments: Any) -> Job:
    """Return what a stage makes of the job; the job as skipped if it cannot be read, or memory is too small for it."""
    try:
        return stage(job, *arguments)
    except Exception as error:
        if not (isinstance(error, ImageError) or is_out_of_memory(error)):
            raise
        return job.skipped(error)
