"""Download published checkpoints; an interrupted download continues where it ended."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from config.errors import InputError, printable
from convert.reader import sha256_of
from data.addresses import connection_problem, open_address
from data.files import missing_folders, remove_empty, write_error

CHUNK = 1 << 20  # bytes


def download(url: str, folder: Path, *, sha256: str = "") -> Path:
    """Download a file into a folder and return its path; print its SHA-256. A file that is there already stays.

    The beginning of an interrupted download stays as NAME.part, and the next call continues it if the server's file has
    the same date. sha256: what the file must have; "" if it is not known.
    Raises InputError if the server cannot be reached, ends the connection or does not say how long the file is, if
    another process is downloading it, or if the file is another one.
    """
    target = folder / Path(urlsplit(url).path).name
    created = missing_folders(target)
    try:
        with _writing():
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            part = target.with_name(f"{target.name}.part")
            if folders := [path for path in (target, part) if path.is_dir()]:
                raise InputError(f"{folders[0]}: is a folder in the place of the download; move it")
            if not target.exists():
                _fetch(url, part)
                with _writing():
                    part.replace(target)
    except _WriteError as error:
        raise write_error(target, error) from error
    except InputError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: sent on to an address that is none
        raise InputError(f"{url}: cannot be downloaded ({connection_problem(error)}); {_REMEDY}") from error
    finally:
        remove_empty(created)
    digest = sha256_of(target)
    print(f"{target}: SHA-256 {digest}")
    if sha256 and digest != sha256:
        raise InputError(f"{target}: expected SHA-256 {sha256}; remove the file and download it again")
    return target


class _WriteError(OSError):
    """The file cannot be written; other errors are those of the connection."""


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _WriteError(error.errno, error.strerror) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep other processes from downloading a file during the block."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    with _writing():
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"{target}: is being downloaded by another process; wait until it has ended") from error
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


_REMEDY = "run the command again to continue, or download it with a browser and give the FILE"


def _fetch(url: str, part: Path) -> None:
    """Append what is missing to a partial file, which has the modification time that the server states."""
    start = part.stat().st_size if part.exists() else 0
    headers = {}
    if start:
        headers = {"Range": f"bytes={start}-", "If-Range": formatdate(part.stat().st_mtime, usegmt=True)}
    try:
        response = open_address(url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # 416: the part is complete or too long; start again
            raise
        part.unlink()
        _fetch(url, part)
        return
    with response:
        start = start if response.status == 206 else 0
        if problem := _problem(response, start):
            if start:
                part.unlink()  # the next run starts again
            raise http.client.HTTPException(problem)
        _append(response, part, start)


def _problem(response: http.client.HTTPResponse, start: int) -> str:
    """Return what is wrong with the headers of a response that should be a file from byte `start` on; "" if nothing."""
    headers = response.headers
    length, coding = headers["Content-Length"], headers["Content-Encoding"]
    if headers.get("Content-Type", "").lower().startswith("text/"):  # such as the page of a login or of an error
        return "the server sent a page instead of the file"
    if coding and coding.lower() != "identity":
        return f"the server sent the file in the coding {printable(coding)}"
    if start and not re.match(rf"bytes {start}-\d+/\d+$", headers.get("Content-Range", "")):
        return "the server sent another part of the file than asked for"
    if response.status == 204 or length == "0":
        return "the server sent an empty file"
    # The end of a chunked response is marked; otherwise only the length tells whether all has come.
    if not response.chunked and not (length and length.isdecimal()):
        return "the server does not say how long the file is"
    return ""


def _append(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    """Write the body of a response to a file from byte `start` on. Raises IncompleteRead if it ends too early."""
    length, date = response.headers["Content-Length"], response.headers["Last-Modified"]
    total = None if response.chunked else start + int(length)
    if start:
        total = int(response.headers["Content-Range"].partition("/")[2])
    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None)
    try:
        with part.open("ab" if start else "wb") as stream, bar:
            while chunk := response.read(CHUNK):
                with _writing():
                    stream.write(chunk)
                bar.update(len(chunk))
    finally:
        with suppress(ValueError, TypeError, OverflowError):  # no date: the next run starts again
            changed = parsedate_to_datetime(date).timestamp()
            os.utime(part, (changed, changed))
    if total is not None and part.stat().st_size < total:
        raise http.client.IncompleteRead(b"", total - part.stat().st_size)
