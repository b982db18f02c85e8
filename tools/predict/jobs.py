"""Plan a run: its pictures and frames, and the files to write for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.errors import InputError, listed, shorten
from data.addresses import file_name, hide_password, is_address
from data.coco_rows import CocoInstance
from data.images import ImageError
from data.video_output import video_suffix
from data.videos import Video, VideoReader
from data.written import check_output_files, find_own
from tools.common.skipped import print_note
from tools.common.threads import read_ahead
from tools.predict.instances import Instances
from tools.predict.picture_files import PictureFiles
from tools.predict.predictor import PreparedInput
from tools.predict.sources import Sources
from tools.predict.tiles import Tile, TiledPicture

READ_AHEAD = 2  # frames


class FrameInfo(NamedTuple):
    """The position of a frame in its video, and the annotated video to write.

    number, seconds: of the frame in its video. target: the annotated video, None for none; rate: its frames per second.
    is_live: the frames come in real time, and some are lost. is_first: no frame was read before.
    """

    number: int
    seconds: float
    target: Path | None
    rate: float
    is_live: bool


class PictureRows(NamedTuple):
    """The rows of a picture: text of the results and of the table, and what the annotation file needs."""

    results: str
    table: str
    image: dict
    annotations: list[tuple[int, CocoInstance]]  # with the category id


@dataclass(frozen=True)
class Job:
    """A picture or a frame, and the results that the stages of the pipeline add."""

    name: str  # for messages and results: the path, or the address without its password
    image_id: int
    targets: tuple[Path, ...] = ()  # a path for each of the `PictureFiles`
    frame: FrameInfo | None = None  # None for pictures
    address: str = ""  # of the picture; empty for files and frames
    path: Path | None = None  # the file with the picture; None for a frame, and for an address until it is fetched
    image: np.ndarray | None = None
    prepared: PreparedInput | None = None
    instances: Instances | None = None
    drawing: np.ndarray | None = None  # of a frame
    rows: PictureRows | None = None
    problem: str = ""  # why it is skipped
    pages: int = 1  # of the file; the first one is used
    picture: TiledPicture | None = None  # of which `tile` is a part
    tile: Tile | None = None
    of_tiles: tuple[tuple[Tile, Instances], ...] = ()  # all tiles of the picture with their instances

    def skipped(self, error: Exception) -> Job:
        """Return the job without its picture, which cannot be read, or for which there is too little memory."""
        problem = str(error)
        if not isinstance(error, ImageError):
            remedy = "shrink it, or use --tile or --threads 0"
            problem = f"{self.name}: too large for the free memory of this machine ({shorten(problem)}); {remedy}"
        return Job(self.name, self.image_id, frame=self.frame, problem=problem, tile=self.tile)


class Jobs:
    """The work of a run: iterating reads the frames of the videos; pictures are read later, in threads.

    Names and targets are kept as text, a tenth of the memory of Path objects.
    """

    def __init__(
        self, pictures: Sequence[str], columns: Sequence[Sequence[str]], videos: Sequence[tuple[Video, Path | None]]
    ) -> None:
        self._pictures, self._columns, self.videos = pictures, columns, videos
        self._ids = image_ids(pictures)
        self._lengths = [_length(video) for video, _ in videos]

    @property
    def total(self) -> int | None:
        """Return how many pictures and frames there are; None if a video does not state it."""
        if any(length is None for length in self._lengths):
            return None
        return len(self._pictures) + sum(length for length in self._lengths if length is not None)

    @property
    def has_addresses(self) -> bool:
        return any(map(is_address, self._pictures))

    def files(self) -> Iterator[Path]:
        """Return the pictures that are files."""
        return (Path(name) for name in self._pictures if not is_address(name))

    @property
    def unit(self) -> str:
        return "picture" if self._pictures or not self.videos else "frame"

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Job]:
        for index, (name, image_id) in enumerate(zip(self._pictures, self._ids)):
            targets = tuple(Path(column[index]) for column in self._columns)
            if is_address(name):
                yield Job(hide_password(name), image_id, targets, address=name)
            else:
                yield Job(name, image_id, targets, path=Path(name))
        numbers = count(max(self._ids, default=0) + 1)
        for video, target in self.videos:
            try:
                reader = video.open()
                yield from _frame_jobs(reader, target, numbers)
            except ImageError as error:
                yield Job(video.name, next(numbers)).skipped(error)


def _frame_jobs(reader: VideoReader, target: Path | None, numbers: Iterator[int]) -> Iterator[Job]:
    video, read = reader.video, 0
    rate = reader.rate / video.every
    with read_ahead(reader.frames(), ahead=READ_AHEAD, newest=reader.is_live) as frames:
        for frame in islice(frames, video.limit):
            info = FrameInfo(frame.number, frame.seconds, target, rate, reader.is_live)
            yield Job(video.name, next(numbers), frame=info, image=frame.image)
            read += 1
    if reader.is_cut_off(read):
        print_note(f"{video.name}: ends after {read} of {reader.count} frames; the file is damaged or incomplete")


def _length(video: Video) -> int | None:
    """Return how many frames of a video will be read, as far as it states it; 0 if it cannot be opened."""
    if video.is_camera or is_address(video.address):
        return video.limit
    try:
        reader = video.open()
    except ImageError:
        return 0
    reader.close()
    return reader.count


def plan_jobs(sources: Sources | Iterable[Path], files: Sequence[PictureFiles] = ()) -> Jobs:
    """Return the pictures and frames with their image ids and the paths of the files that are written of them.

    sources: paths are pictures. The id of a picture is that of `image_ids`, and frames are counted on. Pictures that an
    earlier run wrote are counted and named, if not all are such pictures. Raises InputError if an output would
    overwrite a picture or another file that our programs did not write, or needs files and gets others.
    """
    if not isinstance(sources, Sources):
        sources = Sources([str(path) for path in sources], [])
    local = sources.files()
    if 0 < len(own := find_own(local)) < len(local):
        print_note(
            f"{len(own)} of {len(local)} pictures are outputs of earlier runs, such as drawings or label maps: "
            f"{listed([str(path) for path in own])}; move them if they should not count"
        )
    for kind in files:
        require_files(kind.option, sources, takes_frames=kind.takes_frames, takes_addresses=not kind.needs_file)
    paths = [file_name(name) if is_address(name) else Path(name) for name in sources.pictures]
    columns = [kind.plan(paths) for kind in files]
    extra = (kind.extra_files(paths, targets) for kind, targets in zip(files, columns))
    videos = _video_targets(sources.videos, files)
    check_output_files(chain(*columns, *extra, (target for target in videos if target)))
    text = [[str(path) for path in column] for column in columns]
    return Jobs(sources.pictures, text, list(zip(sources.videos, videos)))


def require_files(option: str, sources: Sources, *, takes_frames: bool = False, takes_addresses: bool = False) -> None:
    """Raise InputError for an option that needs pictures as files, if there are frames or addresses it cannot take."""
    if sources.videos and not takes_frames:
        raise InputError(
            f"{option}: is for pictures, and {sources.videos[0].name} is none; save frames of the video as pictures"
        )
    if not takes_addresses and (addresses := [hide_password(name) for name in sources.pictures if is_address(name)]):
        raise InputError(f"{option}: needs the pictures as files; download {listed(addresses, shown=1)}")


def _video_targets(videos: Sequence[Video], files: Sequence[PictureFiles]) -> list[Path | None]:
    """Return the annotated video of each video; None for no drawings."""
    drawn = [kind for kind in files if kind.takes_frames]
    if not drawn or not videos:
        return [None] * len(videos)
    return list(replace(drawn[0], suffix=video_suffix()).plan([video.file_name for video in videos]))


def image_ids(pictures: Sequence[str | Path]) -> Sequence[int]:
    """Return the image id of each picture: the number in its name if all names are different numbers, else the place,
    from 1."""
    ids = [int(stem) for stem in (Path(name).stem for name in pictures) if stem.isdecimal()]
    return ids if len(set(ids)) == len(pictures) else range(1, len(pictures) + 1)
