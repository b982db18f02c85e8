"""Write and read files that hold one pickled dict, followed by a checksum of its bytes.

`pickle.load` and `paddle.load` stop at the end of the dict and ignore the checksum. A file without one, as earlier
versions and other programs write it, is read too.
"""

from __future__ import annotations

import pickle
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from data.files import atomic_write
from data.written import write_output
from tools.common.safe_pickle import DamagedFileError, load_arrays

_CHECKSUM = re.compile(rb"crc32 [0-9a-f]{8}\n")
_CHECKSUM_BYTES = len("crc32 01234567\n")
_BLOCK = 1 << 20


def save_dict(path: str | Path, content: Mapping[str, Any], *, as_output: bool = False) -> None:
    """Write a dict of plain values and arrays, and its checksum. as_output: as `write_output` does."""
    with saving_dict(path, content, as_output=as_output):
        pass


@contextmanager
def saving_dict(path: str | Path, content: Mapping[str, Any], *, as_output: bool = False) -> Iterator[None]:
    """Write a dict as `save_dict` does to a temporary file, which gets its name after the block."""
    write = partial(write_output, kind="network") if as_output else atomic_write
    with write(path, durable=True) as temporary:
        with temporary.open("wb") as stream:
            summed = _SummedStream(stream)
            pickle.dump(dict(content), summed, protocol=4)
            stream.write(_format_checksum(summed.checksum))
        yield


def load_content(stream: BinaryIO, path: str | Path) -> object:
    """Read what `save_dict` wrote, without running code from it. Raises InputError if the file is damaged.

    stream: the file, opened for reading; path: its name in error messages.
    """
    end = max(0, stream.seek(0, 2) - _CHECKSUM_BYTES)
    stream.seek(end)
    checksum = stream.read()
    has_checksum = _CHECKSUM.fullmatch(checksum) is not None
    if has_checksum and checksum != _format_checksum(_checksum_of(stream, end)):
        raise DamagedFileError(path, "its content does not match its checksum")
    stream.seek(0)
    content = load_arrays(stream, path)
    if stream.read() != (checksum if has_checksum else b""):
        raise DamagedFileError(path, "its content is followed by bytes that are not a checksum")
    return content


class _SummedStream:
    """A file for writing that computes the CRC-32 of what is written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.checksum = 0
        self._stream = stream

    def write(self, data: bytes) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self._stream.write(data)


def _format_checksum(checksum: int) -> bytes:
    return f"crc32 {checksum:08x}\n".encode()


def _checksum_of(stream: BinaryIO, end: int) -> int:
    """Return the CRC-32 of the bytes of a file up to the position `end`."""
    stream.seek(0)
    checksum = 0
    for start in range(0, end, _BLOCK):
        checksum = zlib.crc32(stream.read(min(_BLOCK, end - start)), checksum)
    return checksum
