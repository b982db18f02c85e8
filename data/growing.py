"""Write an output piece by piece: a long run does not hold it in memory, and a run that is stopped keeps it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Callable

from data.files import write_error
from data.written import Kind, write_output


class _DroppedError(Exception):
    """Ends `write_output` without a file."""


class GrowingOutput:
    """A text file to which pieces are added: a context manager.

    At the end of the block it gets its name, as with `write_output`. If the block ends with an error or by Ctrl-C, it
    holds what was added until then; without a piece there is no new file. Several threads may use it.

    start, between: the text before the first piece and between two pieces. end: returns the text after the last piece.
    kind: as in `write_output`.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: str = "",
        between: str = "",
        end: Callable[[], str] = lambda: "",
        kind: Kind = "results",
    ) -> None:
        self.path = path
        self._start, self._between, self._end = start.encode(), between.encode(), end
        self._output = write_output(path, kind=kind)
        self._stream: BinaryIO | None = None
        self._size = self._pieces = 0  # size: bytes of whole pieces
        self._lock = threading.RLock()

    def __enter__(self) -> GrowingOutput:
        self._stream = self._output.__enter__().open("wb", buffering=0)
        self._write(self._start)
        return self

    def add(self, piece: str) -> None:
        """Append a piece. Raises InputError if it cannot be written. After `keep` this does nothing."""
        with self._lock:
            if self._stream is not None:
                self._write((self._between if self._pieces else b"") + piece.encode())
                self._pieces += 1

    def keep(self) -> None:
        """End the file with its last whole piece, and give it its name."""
        with self._lock:
            if self._stream is None:
                return
            try:
                if stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):  # the last write may have been interrupted
                    self._stream.truncate(self._size)
                    self._stream.seek(self._size)
                self._write(self._end().encode())
            except BaseException:
                self._drop()
                raise
            self._stream.close()
            self._stream = None
            self._output.__exit__(None, None, None)

    def keep_if_begun(self) -> None:
        """End the file as `keep` does if it has a piece; otherwise leave no new file."""
        with self._lock:
            if self._pieces:
                self.keep()
            else:
                self._drop()

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.keep()
        else:
            self.keep_if_begun()

    def _write(self, content: bytes) -> None:
        assert self._stream is not None  # between `__enter__` and `keep`
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            raise write_error(self.path, error) from error
        self._size += len(content)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._output.__exit__(_DroppedError, _DroppedError(), None)
