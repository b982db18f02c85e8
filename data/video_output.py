"""Write a video: H.264 in an MP4 file where a library of this machine can, else Motion JPEG in an AVI file."""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from config.errors import InputError
from data.files import temporary_folder
from data.written import write_output

_H264, _MOTION_JPEG = "avc1", "MJPG"


class _Writer(Protocol):
    def add(self, image: np.ndarray) -> None: ...

    def close(self) -> None: ...


class VideoOutput:
    """A context manager that writes a video frame by frame.

    At the end of the block, also after an error of the caller, the file gets its name, as with `write_output`, unless
    it has no frame. Several threads may use it.

    path: its suffix is that of `video_suffix`. rate: frames per second. All frames have the size of the first one, and
    others are fitted into it; Motion JPEG loses the last row or column of an odd size.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        self.path, self.rate = path, rate
        self.frames = 0
        self._writer: _Writer | None = None
        self._size = (0, 0)
        self._output = write_output(path)
        self._lock = threading.RLock()
        self._is_closed = False

    def __enter__(self) -> VideoOutput:
        return self

    def add(self, image: np.ndarray, *, until: float | None = None) -> None:
        """Append a frame, uint8 [H, W, 3] RGB. After `keep` this does nothing.

        until: seconds from the start of the video that the frame reaches at least; it is repeated until then. Raises
        InputError if the file cannot be written.
        """
        with self._lock:
            if self._is_closed:
                return
            if self._writer is None:
                self._size = image.shape[:2]
                temporary = self._output.__enter__()
                with self._delete_on_error():
                    self._writer = _open_writer(temporary, self._size, self.rate, named=self.path)
            times = 1 if until is None else max(1, round(until * self.rate) - self.frames)
            fitted = _fit(image, self._size)
            for _ in range(times):
                with self._delete_on_error():
                    self._writer.add(fitted)
                self.frames += 1

    def keep(self) -> None:
        """End the video and give it its name. Raises InputError if the file is not complete."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._writer is None:
                return
            with self._delete_on_error():
                self._writer.close()
            self._output.__exit__(None, None, None)

    def __exit__(self, *_: object) -> None:
        self.keep()

    @contextmanager
    def _delete_on_error(self) -> Iterator[None]:
        """Delete the file if the block raises an error. Raises InputError for an OSError."""
        try:
            yield
        except BaseException as error:
            self._is_closed = True
            self._output.__exit__(type(error), error, error.__traceback__)
            raise


class VideoOutputs:
    """A context manager that writes several videos in turn, each as `VideoOutput` does."""

    def __init__(self) -> None:
        self._current: VideoOutput | None = None

    def __enter__(self) -> VideoOutputs:
        return self

    def add(self, path: Path, image: np.ndarray, *, rate: float, until: float | None = None) -> None:
        """Append a frame to the video of this path; a new path ends the video before it. See `VideoOutput`."""
        if self._current is None or self._current.path != path:
            self.keep()
            self._current = VideoOutput(path, rate=rate)
        self._current.add(image, until=until)

    def keep(self) -> None:
        """End the current video and give it its name."""
        if self._current is not None:
            self._current.keep()

    def __exit__(self, *_: object) -> None:
        self.keep()


@functools.cache
def video_suffix() -> str:
    """Return the suffix of the videos that can be written here: .mp4 with H.264, or .avi with Motion JPEG."""
    if find_spec("av") is not None:
        return ".mp4"
    with temporary_folder() as folder:
        writer = _opencv_writer(folder / "probe.mp4", (64, 64), 25.0, _H264)
        works = writer.isOpened()
        writer.release()
    return ".mp4" if works else ".avi"


def _open_writer(path: Path, size: tuple[int, int], rate: float, *, named: Path) -> _Writer:
    if path.suffix == ".mp4" and find_spec("av") is not None:
        return _PyAVWriter(path, size, rate)
    writer = _OpenCVWriter(path, size, rate)
    if not writer.is_open:
        raise InputError(f"{named}: this OpenCV cannot write videos of {size[1]} x {size[0]} pixels; pip install av")
    return writer


class _OpenCVWriter:
    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        code = _H264 if path.suffix == ".mp4" else _MOTION_JPEG
        self._path, self._frames = path, 0
        self._writer = _opencv_writer(path, size, rate, code)
        self.is_open = self._writer.isOpened()

    def add(self, image: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> None:
        """Write the end. Raises OSError if frames are missing, because OpenCV does not report a full disk."""
        self._writer.release()
        written = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        written.set(cv2.CAP_PROP_POS_FRAMES, self._frames - 1)
        is_complete = written.grab()
        written.release()
        if not is_complete:
            raise OSError(errno.ENOSPC, "the last frame is missing; is the disk full?")


def _opencv_writer(path: Path, size: tuple[int, int], rate: float, code: str) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, size[::-1])


class _PyAVWriter:
    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        import av

        self._make_frame = av.VideoFrame.from_ndarray
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(10_000))
        self._stream.height, self._stream.width = size
        # Colours at half the resolution, which every player can show, need even sides.
        self._stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"

    def add(self, image: np.ndarray) -> None:
        self._container.mux(self._stream.encode(self._make_frame(np.ascontiguousarray(image), format="rgb24")))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the picture in this size: scaled down if it is too large, and with black borders."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    scale = min(size[0] / height, size[1] / width, 1.0)
    scaled = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
    return canvas
