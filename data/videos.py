"""Read the frames of videos, cameras and streams: with OpenCV, and with PyAV what OpenCV cannot open."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from data.addresses import file_name, hide_password, is_address
from data.files import open_regular, why_missing
from data.images import ImageError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"),
    *(".ogv", ".mjpg", ".mjpeg"),
)
TIMEOUT = 20_000  # milliseconds without an answer or a frame
USUAL_RATE = 25.0  # frames per second of a source that does not state its rate
_HIGHEST_RATE = 1000.0  # cameras state such numbers if they do not know their rate

# FFmpeg inside OpenCV prints its own lines otherwise, and loses packets of RTSP over UDP.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")


class Frame(NamedTuple):
    """A frame of a video.

    number: counts all frames of the source, from 0; seconds: time from the first frame.
    """

    number: int
    seconds: float
    image: np.ndarray  # uint8 [H, W, 3] RGB


@dataclass(frozen=True)
class Video:
    """A video file, a camera or a stream.

    address: the path, the number of the camera, or the address. every: one of this many frames is read. limit: number
    of frames to read; None for all.
    """

    address: str
    every: int = 1
    limit: int | None = None

    @property
    def is_camera(self) -> bool:
        return self.address.isdecimal()

    @property
    def file_name(self) -> Path:
        """Return the path of the file; of cameras and streams, a name without a folder."""
        if self.is_camera:
            return Path(f"camera_{self.address}")
        return file_name(self.address) if is_address(self.address) else Path(self.address)

    @property
    def location(self) -> str:
        """Return what libraries open: the address, or the absolute path, because they take "a:b" for a protocol."""
        return self.address if is_address(self.address) else str(Path(self.address).absolute())

    @property
    def name(self) -> str:
        """Return what messages call it: without the password of an address."""
        if self.is_camera:
            return f"camera {self.address}"
        return hide_password(self.address)

    def open(self) -> VideoReader:
        """Open it. Raises ImageError if that fails."""
        if not self.is_camera and not is_address(self.address):
            _check_file(Path(self.address))
        with suppress(_ClosedError):
            return VideoReader(self, _OpenCVFrames(self))
        if find_spec("av") is not None and not self.is_camera:
            with suppress(_ClosedError):
                return VideoReader(self, _PyAVFrames(self))
        raise ImageError(self.name, _why_closed(self))


def has_video_suffix(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


class VideoReader:
    """An open video.

    rate: frames per second of the source. length: how many frames the source states to have; None if it states none.
    is_live: whether frames come in real time, and are lost if nobody reads them.
    """

    def __init__(self, video: Video, source: _Source) -> None:
        self.video, self._source = video, source
        self.rate = source.rate if 0 < source.rate < _HIGHEST_RATE else USUAL_RATE
        self.length = source.length if source.length > 0 else None
        self.is_live = video.is_camera or (is_address(video.address) and self.length is None)

    @property
    def count(self) -> int | None:
        """Return how many frames are wanted, as far as the source states it."""
        if self.length is None:
            return self.video.limit
        read = -(-self.length // self.video.every)
        return read if self.video.limit is None else min(read, self.video.limit)

    def frames(self) -> Iterator[Frame]:
        """Yield one of `every` frames, in order, to the end. Raises ImageError if the first one cannot be read.

        At the end the video is closed.
        """
        start = time.monotonic()
        try:
            for number in count(step=self.video.every):
                read = self._source.read(skip=self.video.every - 1 if number else 0)
                if read is None:
                    if number == 0:
                        raise ImageError(self.video.name, "has no frame that can be decoded")
                    return
                image, seconds = read
                if self.is_live:
                    seconds = time.monotonic() - start
                yield Frame(number, number / self.rate if seconds is None else seconds, image)
        finally:
            self.close()

    def close(self) -> None:
        self._source.close()

    def is_cut_off(self, frames: int) -> bool:
        """Return whether a file ended after fewer frames than it states, `frames` of those that are wanted."""
        # Containers round their length, hence some tolerance.
        return self.length is not None and self.count is not None and frames < self.count - 1 - self.count // 50


class _ClosedError(Exception):
    """Raised if a library cannot open the video."""


class _Source(Protocol):
    """The interface of both libraries.

    `read` skips frames and returns the next one, RGB, with its time in seconds; None at the end.
    """

    rate: float
    length: int

    def read(self, skip: int) -> tuple[np.ndarray, float | None] | None: ...

    def close(self) -> None: ...


class _OpenCVFrames:
    def __init__(self, video: Video) -> None:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT]
        if video.is_camera:
            self._capture = cv2.VideoCapture(int(video.address))
        elif is_address(video.address):
            self._capture = cv2.VideoCapture(video.location, cv2.CAP_FFMPEG, limits)
        else:  # FFmpeg takes "%03d" for a name, not for a pattern, and unlike other readers is silent
            self._capture = cv2.VideoCapture(video.location, _file_reader())
        if not self._capture.isOpened():
            raise _ClosedError
        self.rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.length = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._first: float | None = None

    def read(self, skip: int) -> tuple[np.ndarray, float | None] | None:
        for _ in range(skip):
            if not self._capture.grab():
                return None
        read, image = self._capture.read()
        if not read:
            return None
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._first is None:
            self._first = seconds
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), max(seconds - self._first, 0.0)

    def close(self) -> None:
        self._capture.release()


@functools.cache
def _file_reader() -> int:
    """Return OpenCV's number for FFmpeg if it was built with it, else for any library."""
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends() else cv2.CAP_ANY


class _PyAVFrames:
    def __init__(self, video: Video) -> None:
        import av

        self._error = av.FFmpegError
        try:
            self._container = av.open(video.location, timeout=TIMEOUT / 1000)
            stream = self._container.streams.video[0]
        except (self._error, IndexError, OSError) as error:
            raise _ClosedError from error
        stream.thread_type = "AUTO"
        self.rate, self.length = float(stream.average_rate or 0), stream.frames
        self._frames = self._container.decode(stream)
        self._first: float | None = None

    def read(self, skip: int) -> tuple[np.ndarray, float | None] | None:
        frame = None
        try:
            for _ in range(skip + 1):
                frame = next(self._frames, None)
        except self._error:
            return None  # damaged from here on
        if frame is None:
            return None
        if self._first is None:
            self._first = frame.time
        seconds = None if frame.time is None or self._first is None else max(frame.time - self._first, 0.0)
        turned = np.rot90(frame.to_ndarray(format="rgb24"), -getattr(frame, "rotation", 0) // 90)
        return np.ascontiguousarray(turned), seconds

    def close(self) -> None:
        self._container.close()


def _check_file(path: Path) -> None:
    """Raise ImageError if a file cannot be read."""
    try:
        with open_regular(path) as stream:
            empty = not stream.read(1)
    except FileNotFoundError:
        raise ImageError(path, why_missing(path)) from None
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error
    if empty:
        raise ImageError(path, "an empty file")


def _why_closed(video: Video) -> str:
    if video.is_camera:
        return "cannot be opened; check that it is connected, allowed, and used by no other program"
    if is_address(video.address):
        return "cannot be opened as a video; check the address, the password and that the server is running"
    remedy = "convert it with ffmpeg" if find_spec("av") else "pip install av, which reads more formats"
    return f"cannot be opened as a video: damaged, or a format that this OpenCV cannot read; {remedy}"
