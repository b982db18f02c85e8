"""Downloads of published checkpoints: whole, interrupted and continued, and refused."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from config.errors import InputError
from convert.download import download
from tests.support.http_files import ServedFile, serve

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.pdparams"


def test_a_file_is_downloaded_once_and_its_digest_printed(tmp_path, capsys):
    with serve(CONTENT, NAME) as served:
        for _ in range(2):
            path = download(served.url, tmp_path / "new", sha256=DIGEST)
            assert path == tmp_path / "new" / NAME and path.read_bytes() == CONTENT
    assert served.starts == [0]
    assert capsys.readouterr().out == f"{path}: SHA-256 {DIGEST}\n" * 2
    assert [file.name for file in path.parent.iterdir()] == [NAME]


def test_a_broken_connection_is_one_line_and_the_next_call_continues(tmp_path):
    with serve(CONTENT, NAME) as served:
        served.ends_after = 1_000_000
        with pytest.raises(InputError, match="the connection ended 2,000,000 bytes before the end.*again to continue"):
            download(served.url, tmp_path)
        assert not (tmp_path / NAME).exists()
        with pytest.raises(InputError, match="1,000,000 bytes before the end"):
            download(served.url, tmp_path)
        served.ends_after = None
        assert download(served.url, tmp_path, sha256=DIGEST).read_bytes() == CONTENT
    assert served.starts == [0, 1_000_000, 2_000_000]


def test_a_file_that_changed_on_the_server_is_downloaded_from_its_beginning(tmp_path):
    with serve(CONTENT, NAME) as served:
        served.ends_after = 1000
        with pytest.raises(InputError):
            download(served.url, tmp_path)
        served.ends_after, served.date, served.content = None, "Tue, 03 Mar 2020 10:00:00 GMT", CONTENT[::-1]
        assert download(served.url, tmp_path).read_bytes() == CONTENT[::-1]
    assert served.starts == [0, 0]


def test_a_part_that_is_the_whole_file_is_downloaded_again(tmp_path):
    with serve(CONTENT, NAME) as served:
        served.ends_after = len(CONTENT) - 1
        with pytest.raises(InputError):
            download(served.url, tmp_path)
        served.ends_after, served.content = None, CONTENT[:-1]
        assert download(served.url, tmp_path).read_bytes() == CONTENT[:-1]
    assert served.starts == [0, len(CONTENT) - 1, 0]


def test_another_digest_is_refused(tmp_path):
    with serve(CONTENT, NAME) as served, pytest.raises(InputError, match="expected SHA-256 0000; remove the file"):
        download(served.url, tmp_path, sha256="0000")


def test_what_the_server_refuses_is_one_line(tmp_path):
    with serve(CONTENT, NAME) as served:
        served.status = 404
        with pytest.raises(InputError, match=r"model.pdparams: cannot be downloaded \(the server answered 404"):
            download(served.url, tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())


def test_a_page_instead_of_the_file_is_not_kept(tmp_path):
    with serve(b"<html>Please log in</html>", NAME) as served:
        served.headers["Content-Type"] = "text/html; charset=utf-8"
        with pytest.raises(InputError, match=r"the server sent a page instead of the file\); run the command again"):
            download(served.url, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Length": "abc"}, "does not say how long the file is"),
        ({"Content-Length": None}, "does not say how long the file is"),
        ({"Content-Length": "0"}, "sent an empty file"),
        ({"Content-Encoding": "gzip"}, "sent the file in the coding gzip"),
    ],
    ids=["no number", "no length", "empty", "compressed"],
)
def test_what_may_be_incomplete_is_not_kept(tmp_path, headers, reason):
    with serve(CONTENT, NAME) as served:
        served.headers.update(headers)
        with pytest.raises(InputError, match=rf"cannot be downloaded \(the server {reason}\)"):
            download(served.url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_none_is_one_line(tmp_path):
    with serve(CONTENT, NAME) as served:
        served.status, served.headers["Location"] = 302, "http://[::1"
        with pytest.raises(InputError, match=r"cannot be downloaded \(Invalid IPv6 URL\)"):
            download(served.url, tmp_path)


@pytest.mark.parametrize("headers", [{"Last-Modified": "yesterday"}, {"Last-Modified": None}, {"Content-Type": None}])
def test_headers_that_say_nothing_about_the_content_may_be_missing(tmp_path, headers):
    with serve(CONTENT, NAME) as served:
        served.headers.update(headers)
        assert download(served.url, tmp_path).read_bytes() == CONTENT


@contextmanager
def interrupted(folder: Path) -> Iterator[ServedFile]:
    """Serve the file, of which the folder has the first 1,000 bytes."""
    with serve(CONTENT, NAME) as served:
        served.ends_after = 1000
        with pytest.raises(InputError):
            download(served.url, folder)
        yield served


def test_a_part_that_was_not_asked_for_is_not_appended(tmp_path):
    with interrupted(tmp_path) as served:
        served.ends_after, served.headers["Content-Range"] = None, f"bytes 900-{len(CONTENT) - 1}/{len(CONTENT)}"
        with pytest.raises(InputError, match="sent another part of the file than asked for"):
            download(served.url, tmp_path)
        del served.headers["Content-Range"]
        assert download(served.url, tmp_path).read_bytes() == CONTENT


def test_a_shorter_part_than_the_rest_of_the_file_is_not_the_end(tmp_path):
    with interrupted(tmp_path) as served:
        served.ends_after, served.headers["Content-Length"] = 10, "10"
        with pytest.raises(InputError, match="the connection ended"):
            download(served.url, tmp_path)
        served.ends_after = None
        del served.headers["Content-Length"]
        assert download(served.url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path, suffix):
    (tmp_path / f"{NAME}{suffix}").mkdir()
    with serve(CONTENT, NAME) as served, pytest.raises(InputError, match="is a folder in the place of the download"):
        download(served.url, tmp_path)


def test_two_downloads_of_one_file_do_not_mix(tmp_path):
    locked, message = FileLock(tmp_path / f".{NAME}.lock"), "is being downloaded by another process; wait until it has"
    with serve(CONTENT, NAME) as served, locked, pytest.raises(InputError, match=message):
        download(served.url, tmp_path)
    assert served.starts == []


def test_a_server_that_stops_sending_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("data.addresses.TIMEOUT", 0.2)
    with serve(CONTENT, NAME) as served:
        served.stalls_after = 1000
        with pytest.raises(InputError, match=r"cannot be downloaded \(.*timed out.*\); run the command again"):
            download(served.url, tmp_path)
    assert (tmp_path / f"{NAME}.part").stat().st_size <= 1000


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*refused.*\); run the command again"):
        download(f"http://127.0.0.1:{port}/{NAME}", tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with serve(CONTENT, NAME) as served, pytest.raises(InputError, match="cannot be written"):
        download(served.url, tmp_path / "file")
