"""Write drawings without overwriting other files: a list in the folder names what our programs wrote there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from config.errors import InputError, listed
from data.files import atomic_write, write_error
from data.images import encode_image

LIST_FILE = ".drawings"  # one line per drawing: name, number of bytes and CRC-32; `find_images` skips hidden files


def check_drawings(paths: Iterable[Path]) -> None:
    """Check, before any work is done, that `write_drawing` may write these files.

    Raises InputError for a file that our programs did not write, or that has been changed since.
    """
    drawn: dict[Path, set[str]] = {}
    foreign = []
    for path in paths:
        if path.is_file():
            if path.parent not in drawn:
                drawn[path.parent] = _read_list(path.parent / LIST_FILE)
            if _list_line(path, _read(path)) not in drawn[path.parent]:
                foreign.append(str(path))
    if foreign:
        raise InputError(
            f"{listed(foreign)}: not written by this project, or changed since, and would be overwritten; give another "
            "folder for the output, or move the file"
        )


def write_drawing(path: Path, image: np.ndarray) -> None:
    """Write a drawing, uint8 [H, W, 3] RGB, in the format of the suffix, and name it in the list of its folder.

    Raises InputError if it cannot be written.
    """
    write_listed(path, encode_image(path, image))


def write_listed(path: Path, content: bytes) -> None:
    """Write a file, and name it in the list of its folder, so that `check_drawings` lets it be written again."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        # Listed before the file has its name: a program that is killed in between must not leave an unlisted drawing.
        if not path.is_file() or _read(path) != content:
            with (path.parent / LIST_FILE).open("a", encoding="ascii") as stream:
                stream.write(f"{_list_line(path, content)}\n")


def _list_line(path: Path, content: bytes) -> str:
    return json.dumps([path.name, len(content), zlib.crc32(content)])


def _read_list(path: Path) -> set[str]:
    return set(_read(path).decode("ascii", errors="replace").splitlines()) if path.is_file() else set()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise write_error(path, error) from error
