"""Find the pictures, videos, cameras and streams that `demo.py --input` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from config.errors import InputError
from data.addresses import check_address, content_type, file_name, is_address
from data.images import find_images, has_picture_suffix
from data.videos import VIDEO_SUFFIXES, Video, has_video_suffix

STANDARD_INPUT = "-"


class Sources(NamedTuple):
    """The inputs of a run.

    pictures: paths and addresses. They are text, because the Path objects of 100,000 pictures take 100 MB.
    """

    pictures: list[str]
    videos: list[Video]

    @property
    def total(self) -> int | None:
        """Return the number of pictures; None if there are videos."""
        return None if self.videos else len(self.pictures)

    def files(self) -> list[Path]:
        """Return the files among them."""
        names = [*self.pictures, *(video.address for video in self.videos if not video.is_camera)]
        return [Path(name) for name in names if not is_address(name)]


def find_sources(inputs: Sequence[str | Path], *, every: int = 1, limit: int | None = None) -> Sources:
    """Return what the inputs name, each picture and video once.

    An input is what `find_images` takes, where videos count too, an address, the number of a camera, or "-" for a list
    on standard input with one of these per line. every, limit: as in `Video`. Raises InputError as `find_images` does,
    and for an address that cannot be read or an empty list.
    """
    names: list[str] = []
    for is_path, group in groupby(_expand_standard_input(inputs), key=_is_path):
        found = list(group)
        if is_path:
            found = [str(path) for path in find_images(found, extra_suffixes=VIDEO_SUFFIXES)]
        names += found
    videos: list[str] = []
    pictures: list[str] = []
    for name in dict.fromkeys(names):
        (videos if _is_video(name) else pictures).append(name)
    return Sources(pictures, [Video(name, every, limit) for name in videos])


def _expand_standard_input(inputs: Sequence[str | Path]) -> list[str]:
    """Return the inputs, with the lines of standard input in the place of "-"."""
    sources = []
    for source in map(str, inputs):
        if source != STANDARD_INPUT or Path(source).exists():
            sources.append(source)
            continue
        lines = [os.fsdecode(line) for line in sys.stdin.buffer.read().splitlines()]
        named = [line for line in lines if line.strip()]
        if not named:
            raise InputError("--input -: standard input has no line; pipe a list of paths into the program")
        sources += named
    return sources


def _is_path(name: str) -> bool:
    """Return whether an input is a path or a pattern, not an address or the number of a camera."""
    return not is_address(name) and (not name.isdecimal() or Path(name).exists())


def _is_video(name: str) -> bool:
    """Return whether a name is that of a video, a camera or a stream. Raises InputError for other addresses."""
    if not is_address(name):
        return has_video_suffix(Path(name)) or not _is_path(name)
    check_address(name)
    if not name.lower().startswith("http"):
        return True
    path = file_name(name)
    if has_picture_suffix(path) or has_video_suffix(path):
        return has_video_suffix(path)
    return not content_type(name).startswith("image/")
