"""Compiled networks on disk: made once for a key, found again by it, made anew where an entry is damaged."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from config.base import PROJECT
from config.errors import InputError

CACHE_VARIABLE = "PADDLE_SOLO_CACHE"
MANIFEST = "manifest.json"  # written last: SHA-256 of each file
LOCK = ".lock"
WORKSHOP = ".making_"  # the beginning of the names of folders in which something is being made
LEFT_BEHIND = 24 * 3600  # seconds; who made something in a folder as old as this was killed
CODE = ("model", "tools/engine")  # folders whose code decides which graph is written
KEEP = 20  # entries used last; the others are removed when one is added


def cache_folder() -> Path:
    """$PADDLE_SOLO_CACHE, by default paddle-solo in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-solo"


def compiled(key: str, make: Callable[[Path], None]) -> Path:
    """The folder with what `make` wrote for this key, in this process or an earlier one.

    Each process that finds none works in a folder of its own and renames it at the end, so that several at once do not
    hurt each other. Raises InputError where the cache folder cannot be written to.
    """
    folder = cache_folder() / key
    if _is_whole(folder):
        with suppress(OSError):  # an entry of another user is as good
            os.utime(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=WORKSHOP) as workshop:
            made = Path(workshop) / "made"
            made.mkdir()
            make(made)
            sums = {path.name: _digest_of(path) for path in sorted(made.iterdir())}
            (made / MANIFEST).write_text(json.dumps(sums))
            with (folder.parent / LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # for two renames: between them there is no entry
                if not _is_whole(folder):  # or another process was faster
                    if folder.exists():
                        folder.rename(Path(workshop) / "damaged")
                    made.rename(folder)
        if not _is_whole(folder):
            raise InputError(f"{folder}: what was just compiled is damaged; is the disk full?")
        _remove_oldest(folder.parent)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); name a folder for compiled networks in "
            f"{CACHE_VARIABLE}, or use --engine dynamic"
        ) from error
    return folder


def key_of(facts: Iterable[object], arrays: Mapping[str, np.ndarray]) -> str:
    """A name for what is made of these facts, these arrays and the project's code of networks."""
    digest = hashlib.sha256()
    for fact in (*facts, _code_digest()):
        digest.update(f"{fact!r}\n".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()[:32]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(file for folder in CODE for file in (PROJECT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        sums = json.loads((folder / MANIFEST).read_text())
        return bool(sums) and all(_digest_of(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remove_oldest(root: Path) -> None:
    entries = []
    for folder in root.iterdir():
        with suppress(OSError):  # another process removes it
            changed = folder.stat().st_mtime
            if (folder / MANIFEST).exists():
                entries.append((changed, folder))
            elif folder.name.startswith(WORKSHOP) and time.time() - changed > LEFT_BEHIND:
                shutil.rmtree(folder, ignore_errors=True)
    for _, folder in sorted(entries, reverse=True)[KEEP:]:
        shutil.rmtree(folder, ignore_errors=True)
