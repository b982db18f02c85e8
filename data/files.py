"""Files appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from config.errors import InputError


@contextmanager
def write_whole(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, which takes its name when the block ends without an error.

    The folder is made where it is missing; the temporary name keeps the suffix, from which encoders tell the format.
    durable: the content is on the disk before the name changes, so that even a power cut leaves the old or the new.
    Raises InputError where the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); give another place or make room") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
