"""Fetching pictures from a local server in the place of the internet."""

from __future__ import annotations

import pytest

from data import remote
from data.images import ImageError
from tests.support.http_files import serve


def test_a_picture_is_fetched_with_all_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    with serve(content, "cells.png") as served:
        remote.fetch_picture(served.url, tmp_path / "x.png")
        assert remote.file_name(served.url).name == "cells.png"
    assert (tmp_path / "x.png").read_bytes() == content


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"status": 404}, "the server answered 404"),
        ({"ends_after": 10}, "the connection ended 90 bytes before the end"),
        ({"headers": {"Content-Type": "text/html"}}, "the server sent text/html instead of a picture"),
        ({"stalls_after": 10}, "timed out"),
    ],
)
def test_what_a_server_does_wrong_is_said(tmp_path, monkeypatch, changes, reason):
    monkeypatch.setattr("data.remote.TIMEOUT", 0.2)
    with serve(b"x" * 100, "cells.png") as served:
        for name, value in changes.items():
            setattr(served, name, value)
        with pytest.raises(ImageError, match=reason) as caught:
            remote.fetch_picture(served.url, tmp_path / "x.png")
    assert str(caught.value).startswith(f"{served.url}: ")


def test_a_server_that_is_gone(tmp_path):
    with serve(b"", "cells.png") as served:
        pass
    for fetch in (lambda: remote.fetch_picture(served.url, tmp_path / "x"), lambda: remote.content_type(served.url)):
        with pytest.raises(ImageError, match="cannot be fetched .*refused"):
            fetch()


def test_a_picture_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data.remote._LARGEST", 1 << 20)
    with serve(bytes(3 << 20), "cells.png") as served, pytest.raises(ImageError, match="larger than 1 MB; download it"):
        remote.fetch_picture(served.url, tmp_path / "x.png")
