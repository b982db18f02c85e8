"""Standard output and standard error of the programs: escapes, full disks, and readers that have gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, TextIO

from config.errors import InputError
from data.files import write_error


class OutputError(InputError):
    """Standard output or standard error cannot be written, for example because the disk of a log is full."""


class OutputClosedError(OutputError):
    """Nobody reads standard output or standard error any more, as with `| head`."""

    status = 141  # of Unix tools, which end quietly


class OutputStream:
    """A text stream that raises OutputError where it cannot be written. edit: applied to the text."""

    def __init__(self, stream: TextIO, name: str, edit: Callable[[str], str] = str) -> None:
        self._stream = stream
        self._name = name
        self._edit = edit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._translate_errors():
            return self._stream.write(self._edit(text))

    def flush(self) -> None:
        with self._translate_errors():
            self._stream.flush()

    def close_if_unwritable(self) -> None:
        """Discard what is left in the buffer if it cannot be written; Python would fail on it at its end."""
        try:
            self.flush()
        except OutputError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise OutputClosedError(f"nobody reads {self._name} any more") from error
        except OSError as error:
            raise OutputError(str(write_error(Path(self._name), error))) from error
