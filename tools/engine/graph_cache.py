"""The graph cache: compiled graphs on disk, written once for a key, and again if an entry is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
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
from data.files import open_regular, read_text

CACHE_VARIABLE = "PADDLE_SOLO_CACHE"
SIZE_VARIABLE = "PADDLE_SOLO_CACHE_GB"
DEFAULT_SIZE = "2"  # GB of all entries; the one that was just added may be larger
MANIFEST = "manifest.json"  # written last: SHA-256 of each file
LOCK = ".lock"
STAGING = ".making_"  # prefix of the folders in which entries are written
STALE_AFTER = 24 * 3600  # seconds; the process that wrote into an older staging folder was killed
CODE = ("model", "tools/engine")  # folders whose code decides which graph is written
IN_USE = 60  # seconds since the last use in which an entry is not removed
KEEP = 20  # most recently used entries; the others are removed when one is added


def cache_folder() -> Path:
    """Return $PADDLE_SOLO_CACHE, by default paddle-solo in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return user_cache_path("paddle-solo", appauthor=False)


def cached_graphs(key: str, write: Callable[[Path], None]) -> Path:
    """Return the folder with the files that `write` wrote for this key, in this process or an earlier one.

    Each process that finds no entry writes into its own staging folder and renames it at the end, so that several can
    do so at once. Raises InputError if the cache folder cannot be written to, or if other users can write to it.
    """
    folder = cache_folder() / key
    _refuse_foreign(folder.parent)
    if _is_intact(folder):
        with suppress(OSError):  # the folder may be read-only
            os.utime(folder)
        return folder
    limit = _size_limit()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(folder.parent)  # or another user has created it meanwhile
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
                _remove_oldest(folder.parent, limit)
        if not _is_intact(folder):
            raise InputError(f"{folder}: the graph that was just compiled is damaged; make room on the disk")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with the variable "
            f"{CACHE_VARIABLE}, or use the engine dynamic"
        ) from error
    return folder


def key_of(facts: Iterable[object], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the key of graphs that follow from these facts, these arrays and the code of networks and engines."""
    return fingerprint((*facts, _code_digest()), arrays)


def fingerprint(facts: Iterable[object], arrays: Mapping[str, np.ndarray]) -> str:
    """Return a text that differs for other facts or other arrays."""
    digest = hashlib.sha256()
    for fact in facts:
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


def _refuse_foreign(root: Path) -> None:
    """Raise InputError for a cache folder in which others could put graphs or links, which this process would follow.

    The checksums are no protection, because they are next to the graphs.
    """
    remedy = f"choose a folder of your own with the variable {CACHE_VARIABLE}, or use the engine dynamic"
    try:
        found = root.stat()
    except OSError:  # it is created, or reported as a folder that cannot be written
        return
    if not stat.S_ISDIR(found.st_mode):
        raise InputError(f"{root}: is no folder, which compiled graphs need; {remedy}")
    if hasattr(os, "getuid"):  # Windows has other rules, and a cache folder for each user
        if found.st_uid != os.getuid():
            raise InputError(f"{root}: the folder for compiled graphs belongs to another user; {remedy}")
        if _others_write(found):
            raise InputError(f"{root}: other users can write compiled graphs there; run chmod go-w, or {remedy}")
    lock = root / LOCK
    if lock.is_symlink() or (lock.exists() and not lock.is_file()):
        raise InputError(f"{lock}: is a link, whose target would be overwritten, a pipe or a folder; remove it")


def _others_write(found: os.stat_result) -> bool:
    return bool(stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH))


def _size_limit() -> float:
    """Return the size of the cache in bytes that $PADDLE_SOLO_CACHE_GB allows."""
    text = os.environ.get(SIZE_VARIABLE) or DEFAULT_SIZE
    try:
        size = float(text) * 1e9
    except ValueError:
        size = -1.0
    if not size >= 0:
        raise InputError(f"{SIZE_VARIABLE}={text}: expected a number of gigabytes, such as {DEFAULT_SIZE}")
    return size


def _is_intact(folder: Path) -> bool:
    """Return whether an entry has its files, without following links."""
    try:
        if folder.is_symlink() or (folder / MANIFEST).is_symlink():
            return False
        sums = json.loads(read_text(folder / MANIFEST))
        own = all(Path(name).name == name and not (folder / name).is_symlink() for name in sums)
        return bool(sums) and own and all(_digest_of(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remove_oldest(root: Path, limit: float) -> None:
    """Keep the KEEP most recently used entries, fewer if they exceed `limit` bytes together; remove the others.

    Entries of the last minute stay, because another process may be about to load them.
    """
    entries = []
    for folder in root.iterdir():
        with suppress(OSError):  # another process removes it
            changed = folder.lstat().st_mtime
            if (folder / MANIFEST).exists():
                entries.append((changed, folder, sum(path.lstat().st_size for path in folder.iterdir())))
            elif folder.name.startswith(STAGING) and time.time() - changed > STALE_AFTER:
                shutil.rmtree(folder, ignore_errors=True)
    total = 0
    for place, (changed, folder, size) in enumerate(sorted(entries, reverse=True)):
        total += size
        if (place >= KEEP or total > limit) and time.time() - changed > IN_USE:
            shutil.rmtree(folder, ignore_errors=True)
