"""Open regular files only, and write files atomically: a file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from config.errors import InputError, listed, printable

# What to do about an error of a file or a folder.
REMEDIES = {
    errno.ENOSPC: "free disk space or give another path",
    errno.EDQUOT: "remove files of yours or give a path on another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or give a path on another disk",
    errno.EROFS: "give a path on a disk that is not read-only",
    errno.EACCES: "change the permissions or give another path",
    errno.EPERM: "change the permissions or give another path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EEXIST: "its folder is a file or a link to nothing; give another path",
}
_NO_ALLOCATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV)  # the file system cannot reserve room
_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{8}(?:[0-9a-f]{8})?")


def as_path(value: object) -> Path:
    """Return the path of a file. Raises InputError for what is no path, and for an empty one: the current folder."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise InputError(f"{value!r}: expected the path of a file")
    return Path(value)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, to read its bytes.

    Raises OSError for anything else: a pipe may never get a writer, and a device such as /dev/zero has no end.
    """
    path = Path(path)
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a name with a NUL character")
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder raises a better error
        raise OSError(errno.EINVAL, "a pipe or a device, not a regular file")
    return path.open("rb")


def why_missing(path: Path) -> str:
    """Return what is wrong with a path that leads to nothing."""
    if path.is_symlink():
        return f"is a link to {printable(path.readlink())}, which does not exist"
    return "no such file or folder"


def json_damage(error: Exception) -> str:
    """Return what is wrong with a text that is not JSON, without Python's advice on numbers of thousands of digits."""
    return str(error).partition("; use sys.")[0]


def read_text(path: str | Path) -> str:
    """Return the text of a regular file, UTF-8 with or without a byte order mark.

    Raises OSError if it cannot be read, UnicodeDecodeError if it is not UTF-8.
    """
    with open_regular(path) as stream:
        return stream.read().decode("utf-8-sig")


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` when the block ends without an error.

    The folder is created if missing. The temporary name keeps the suffix, from which encoders choose the format.
    A device or a pipe is written to directly.
    durable: write the content to the disk before renaming, so that a power cut leaves the old or the new file.
    Raises InputError if the file cannot be written.
    """
    path = Path(path)
    temporary, pipe = path, None
    try:
        temporary = _temporary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        pipe = _open_pipe(path)
        if temporary != path:
            temporary.touch(exist_ok=False)
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if pipe is not None:
            os.close(pipe)
        if temporary != path:
            with suppress(OSError):
                temporary.unlink()


# Pipes that `check_writable` opened. They stay open until the output is written, because closing them ends the reader.
_PIPES: dict[Path, int] = {}


def _open_pipe(path: Path) -> int | None:
    """Open a named pipe, so that its reader waits for the output. Raises OSError if no program reads it."""
    if not path.is_fifo():
        return None
    if path in _PIPES:
        return _PIPES.pop(path)
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "a pipe that no program reads") from None


def utf8_name(path: Path) -> str:
    """Return a path with slashes as text that UTF-8 can encode; other bytes become escapes such as \\xff."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def check_writable(path: str | Path, *, read: Iterable[str | Path] = ()) -> None:
    """Check, before hours of work, that `atomic_write` can write `path`.

    read: input files of the program, which `path` must not replace; they need not exist.
    Raises InputError if the file cannot be written or is one of the input files.
    """
    path = Path(path)
    created: list[Path] = []
    try:
        if path.is_file() and any(_is_same(path, other) for other in read):
            raise InputError(f"{path}: is read too and would be overwritten; give the output another name")
        created += missing_folders(path)
        probe = _temporary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if probe != path:
            probe.touch(exist_ok=False)
            probe.unlink()
        elif (pipe := _open_pipe(path)) is not None:
            _PIPES[path] = pipe
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        remove_empty(created)


def missing_folders(path: Path) -> list[Path]:
    """Return the folders that do not exist and that `path` needs, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, in this order, such as those that a program created before it was refused."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _is_same(path: Path, other: str | Path) -> bool:
    with suppress(OSError):
        return path.samefile(other)
    return False


def _temporary(path: Path) -> Path:
    if "\0" in str(path):
        raise InputError(f"{printable(path)}: a name with a NUL character; give another path")
    if not path.name or path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        return path
    # Random, so that no link can wait there that leads to another file; and without the name, which may already be as
    # long as the file system allows.
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}{path.suffix}")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for temporary files, which is removed after the block.

    Raises InputError that names the folder for an OSError of the block, such as that of a full disk.
    """
    folder = Path("TMPDIR")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).parent
            yield Path(name)
    except OSError as error:
        raise InputError(
            f"{folder}: temporary files cannot be written there ({error.strerror or error}); make room in this folder, "
            "or choose another one with the environment variable TMPDIR"
        ) from error


def common_folder(folders: Iterable[Path]) -> Path:
    """Return the folder that contains all of these. Raises InputError if they are on two drives of Windows."""
    folders = list(folders)
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        drives = listed(sorted({folder.drive for folder in folders}))
        raise InputError(f"{folders[0]}: the files are on the drives {drives}; put them on one") from error


def check_room(folder: Path, size: int) -> None:
    """Raise OSError if a file of this number of bytes does not fit into a folder, where the system can tell.

    Libraries that write files without looking at errors would leave incomplete ones.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            os.posix_fallocate(probe.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _NO_ALLOCATION:
                raise


def find_temporaries(folder: Path, suffix: str) -> list[Path]:
    """List the temporary files of `atomic_write` in a folder, including those that killed processes left there."""
    return [path for path in folder.glob(f".*-*{suffix}") if _TEMPORARY.fullmatch(path.stem)]


def write_error(path: Path, error: OSError) -> InputError:
    """Return the InputError for a file that cannot be written, with the remedy for this error."""
    remedy = REMEDIES.get(error.errno or 0, "give another path")
    return InputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")
