"""Open tar archives, plain or compressed with gzip, so that a small file cannot fill the memory."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from config.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
LARGEST = 4 << 30  # bytes; no published checkpoint unpacks to as many
SMALL = 256 << 20  # bytes; up to here any compression is accepted, because constant arrays become very small
MAX_RATIO = 100  # of larger archives; trained weights hardly become smaller
_BLOCK = 1 << 20  # bytes that are read at once


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive during the block; reading it raises InputError where it unpacks to more than any checkpoint."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        size = path.stat().st_size
        content: Any = _LimitedStream(file, size, ValueError("its members are larger than the file"))
        if is_gzip:
            limit = min(LARGEST, max(SMALL, MAX_RATIO * size))
            content = _LimitedStream(gzip.GzipFile(fileobj=file), limit, _too_large_error(path, limit))
        with tarfile.open(fileobj=content, mode="r:") as archive:
            yield archive


def _too_large_error(path: Path, limit: int) -> InputError:
    return InputError(
        f"{path}: unpacks to more than {limit >> 20} MiB, which no checkpoint of this size does; if you trust it, "
        "unpack it and give the folder with the variables"
    )


def read_to_end(archive: tarfile.TarFile) -> None:
    """Check the end of an archive whose members have been listed. Raises ValueError if it was cut off."""
    # tarfile stops silently at a header it cannot read; a complete archive ends with a block of zeros.
    rest: Any = archive.fileobj
    rest.seek(archive.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"the archive ends after {len(archive.getmembers())} members without its end mark")
    while rest.read(_BLOCK):  # read to the end, where gzip checks its checksum
        continue


def read_exactly(stream: BinaryIO, size: int) -> bytearray:
    """Read `size` bytes from a member or a file, a block at a time. Raises ValueError if there are fewer."""
    content = bytearray(size)
    for start in range(0, size, _BLOCK):
        block = stream.read(min(_BLOCK, size - start))
        if len(block) != min(_BLOCK, size - start):
            raise ValueError("it ends too early")
        content[start : start + len(block)] = block
    return content


class _LimitedStream:
    """The unpacked bytes of an archive; raises an error for positions above a limit.

    It also refuses to read much at once, because tarfile does not check the sizes of headers.
    """

    def __init__(self, stream: Any, limit: int, error: ValueError) -> None:
        self.tell = stream.tell
        self._stream = stream
        self._limit = limit
        self._error = error

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def read(self, size: int) -> bytes:
        if size > _BLOCK:
            raise ValueError(f"a header claims to be larger than {_BLOCK >> 20} MiB")
        self._check(self.tell())
        return self._stream.read(size)

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise self._error
