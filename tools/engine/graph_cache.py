"""The graph cache: compiled graphs on disk, written once for a key, and again if an entry is damaged."""

from __future__ import annotations

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
from filelock import FileLock
from platformdirs import user_cache_path

from config.base import PROJECT
from config.errors import InputError

CACHE_VARIABLE = "PADDLE_SOLO_CACHE"
MANIFEST = "manifest.json"  # written last: SHA-256 of each file
LOCK = ".lock"
STAGING = ".making_"  # prefix of the folders in which entries are written
STALE_AFTER = 24 * 3600  # seconds; the process that wrote into an older staging folder was killed
CODE = ("model", "tools/engine")  # folders whose code decides which graph is written
KEEP = 20  # most recently used entries; the others are removed when one is added


def cache_folder() -> Path:
    """Return $PADDLE_SOLO_CACHE, by default paddle-solo in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return user_cache_path("paddle-solo", appauthor=False)


def cached_graphs(key: str, write: Callable[[Path], None]) -> Path:
    """Return the folder with the files that `write` wrote for this key, in this process or an earlier one.

    Each process that finds no entry writes into its own staging folder and renames it at the end, so that several can
    do so at once. Raises InputError if the cache folder cannot be written to.
    """
    folder = cache_folder() / key
    if _is_intact(folder):
        with suppress(OSError):  # an entry of another user is as good
            os.utime(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=STAGING) as staging:
            entry = Path(staging) / "entry"
            entry.mkdir()
            write(entry)
            sums = {path.name: _digest_of(path) for path in sorted(entry.iterdir())}
            (entry / MANIFEST).write_text(json.dumps(sums))
            with FileLock(folder.parent / LOCK):  # between the two renames there is no entry
                if not _is_intact(folder):  # or another process was faster
                    if folder.exists():
                        folder.rename(Path(staging) / "damaged")
                    entry.rename(folder)
        if not _is_intact(folder):
            raise InputError(f"{folder}: the graph that was just compiled is damaged; make room on the disk")
        _remove_oldest(folder.parent)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with the variable "
            f"{CACHE_VARIABLE}, or use the engine dynamic"
        ) from error
    return folder


def key_of(facts: Iterable[object], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the key of graphs that follow from these facts, these arrays and the code of networks and engines."""
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


def _is_intact(folder: Path) -> bool:
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
            elif folder.name.startswith(STAGING) and time.time() - changed > STALE_AFTER:
                shutil.rmtree(folder, ignore_errors=True)
    for _, folder in sorted(entries, reverse=True)[KEEP:]:
        shutil.rmtree(folder, ignore_errors=True)
