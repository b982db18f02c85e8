"""Find what `demo.py --input` names: pictures, addresses of pictures, videos, cameras and streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from config.errors import InputError
from data.images import find_images, has_picture_suffix
from data.remote import content_type, file_name
from data.videos import VIDEO_SUFFIXES, Video, check_address, has_video_suffix, is_address

STANDARD_INPUT = "-"


class Sources(NamedTuple):
    """What a program reads.

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


def find_sources(inputs: Sequence[str | Path], *, every: int = 1, most: int | None = None) -> Sources:
    """Return what the inputs name, each picture and video once.

    An input is what `find_images` takes, where videos count too, an address, the number of a camera, or "-" for a list
    on standard input with one of these per line. every, most: as in `Video`. Raises InputError as `find_images` does,
    and for an address that cannot be read or an empty list.
    """
    names: list[str] = []
    local: list[str] = []
    for source in _with_standard_input(inputs):
        if is_address(source) or (source.isdecimal() and not Path(source).exists()):
            names += [str(path) for path in find_images(local, also=VIDEO_SUFFIXES)] if local else []
            names.append(source)
            local = []
        else:
            local.append(source)
    names += [str(path) for path in find_images(local, also=VIDEO_SUFFIXES)] if local else []
    names = list(dict.fromkeys(names))
    videos = [name for name in names if _is_video(name)]
    pictures = names
    if videos:
        of_videos = set(videos)
        pictures = [name for name in names if name not in of_videos]
    return Sources(pictures, [Video(name, every, most) for name in videos])


def _with_standard_input(inputs: Sequence[str | Path]) -> list[str]:
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


def _is_video(name: str) -> bool:
    """Return whether a name is that of a video, a camera or a stream. Raises InputError for other addresses."""
    if not is_address(name):
        return (name.isdecimal() and not Path(name).exists()) or has_video_suffix(Path(name))
    check_address(name)
    if not name.lower().startswith("http"):
        return True
    path = file_name(name)
    if has_picture_suffix(path) or has_video_suffix(path):
        return has_video_suffix(path)
    return not content_type(name).startswith("image/")
