"""Write outputs without overwriting other files: a list in each folder names what our programs wrote there.

Results are made again in seconds, and any output may replace them. Annotations and networks, on which more depends, are
replaced by files of their kind only.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from config.errors import InputError, listed
from data.files import atomic_write, check_writable, write_error
from data.images import encode_image

# One line per output: name, number of bytes, CRC-32 and, unless it is a result, the kind, which earlier versions left
# out. `find_images` skips hidden files.
LIST_FILE = ".written"
Kind = Literal["results", "annotations", "annotations of shapes", "network"]
_BLOCK = 1 << 20  # bytes; outputs may be larger than the memory


def check_output_files(paths: Iterable[Path], *, read: Iterable[str | Path] = (), kind: Kind = "results") -> None:
    """Check, before any work is done, that `write_output` may write these files.

    read: input files of the program, as in `check_writable`. Raises InputError for a file that cannot be written, that
    is read too or named twice, that our programs did not write, or that has been changed since or has another kind, and
    for a list that is no file.
    """
    paths, read = list(paths), list(read)
    counts = Counter(os.path.abspath(path) for path in paths)  # noqa: PTH100 (accepts circular links)
    candidates = [Path(name) for name, count in counts.items() if count > 1]
    # A device such as /dev/null may be given several times.
    if repeated := [str(path) for path in candidates if path.is_file() or not path.exists()]:
        raise InputError(f"{listed(repeated)}: would be written twice; give each output a name of its own")
    written: dict[Path, set[str]] = {}
    foreign, others = [], []
    for path in paths:
        check_writable(path, read=read)
        _check_list(path.parent)
        if path.is_file() and (path.is_symlink() or path.stat().st_size):  # an empty file has nothing to lose
            if path.parent not in written:
                written[path.parent] = _read_list(path.parent / LIST_FILE)
            line, lines = _list_line(path.name, path), written[path.parent]
            kinds = [known for known in get_args(Kind)[1:] if _of_kind(line, known) in lines]
            if kinds and kind not in kinds:
                others.append(f"{path} ({kinds[0]})")
            elif not kinds and line not in lines:
                foreign.append(str(path))
    if others:
        raise InputError(
            f"{listed(others)}: would be replaced by a file of another kind; give another output, or move the file"
        )
    if foreign:
        raise InputError(
            f"{listed(foreign)}: not written by this project, or changed since, and would be overwritten; give another "
            "output, or move the file"
        )


@contextmanager
def write_output(path: str | Path, *, durable: bool = False, kind: Kind = "results") -> Iterator[Path]:
    """Write a file as `atomic_write` does, and name it in the list of its folder, so that it may be written again."""
    path = Path(path)
    with atomic_write(path, durable=durable) as temporary:
        yield temporary
        if temporary == path:  # a device or a pipe, which keeps nothing
            return
        # Listed before the file has its name: a program that is killed in between must not leave an unlisted file.
        line = _list_line(path.name, temporary)
        if kind != "results" or not path.is_file() or _list_line(path.name, path) != line:
            _check_list(path.parent)
            with (path.parent / LIST_FILE).open("a", encoding="ascii") as stream:
                stream.write(f"{_of_kind(line, kind)}\n")


def write_drawing(path: Path, image: np.ndarray) -> None:
    """Write a drawing, uint8 [H, W, 3] RGB or uint16 [H, W], in the format of the suffix, as `write_output` does.

    Raises InputError if it cannot be written.
    """
    content = encode_image(path, image)
    with write_output(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: object, *, kind: Kind = "results") -> None:
    """Write plain values as a JSON file, as `write_output` does."""
    with write_output(path, kind=kind) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def find_own(paths: Iterable[Path]) -> list[Path]:
    """Return the files that the list of their folder names with the size that they have."""
    listed_in: dict[Path, set[str]] = {}
    own = []
    for path in paths:
        if path.parent not in listed_in:
            lines = _read_list(path.parent / LIST_FILE)
            listed_in[path.parent] = {line.rpartition(",")[0] for line in lines}
        names = listed_in[path.parent]
        if names and path.is_file() and _list_line_start(path.name, path.stat().st_size) in names:
            own.append(path)
    return own


def _check_list(folder: Path) -> None:
    """Raise InputError if the list of a folder is a link, whose target would be changed, a pipe or a folder."""
    path = folder / LIST_FILE
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path}: not a regular file, as the list of written outputs must be; remove it")


def _of_kind(line: str, kind: Kind) -> str:
    return line if kind == "results" else f"{line[:-1]}, {json.dumps(kind)}]"


def _list_line(name: str, path: Path) -> str:
    """Return the line of a list for a result with the content of `path` under this name."""
    size = checksum = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                size += len(block)
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        raise write_error(path.with_name(name), error) from error
    return f"{_list_line_start(name, size)}, {checksum}]"


def _list_line_start(name: str, size: int) -> str:
    """Return the line of a list without the checksum; the name is in UTF-8, whatever the locale."""
    return json.dumps([os.fsencode(name).decode("utf-8", "surrogateescape"), size])[:-1]


def _read_list(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="ascii", errors="replace").splitlines()) if path.is_file() else set()
    except OSError as error:
        raise write_error(path, error) from error
