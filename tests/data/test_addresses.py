"""Test addresses, and fetching pictures from a local server instead of the internet."""

from __future__ import annotations

import base64

import pytest

from config.errors import InputError
from data import addresses
from data.images import ImageError
from tests.support.http_files import serve


def test_a_picture_is_fetched_with_all_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    with serve(content, "cells.png") as served:
        addresses.fetch_picture(served.url, tmp_path / "x.png")
        assert addresses.file_name(served.url).name == "cells.png"
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
    monkeypatch.setattr("data.addresses.TIMEOUT", 0.2)
    with serve(b"x" * 100, "cells.png") as served:
        for name, value in changes.items():
            setattr(served, name, value)
        with pytest.raises(ImageError, match=reason) as caught:
            addresses.fetch_picture(served.url, tmp_path / "x.png")
    assert str(caught.value).startswith(f"{served.url}: ")


def test_a_server_that_is_gone(tmp_path):
    with serve(b"", "cells.png") as served:
        pass
    with pytest.raises(ImageError, match="cannot be fetched .*refused"):
        addresses.fetch_picture(served.url, tmp_path / "x.png")
    with pytest.raises(ImageError, match="cannot be fetched .*refused"):
        addresses.content_type(served.url)


def test_a_picture_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data.addresses._LARGEST", 1 << 20)
    with serve(bytes(3 << 20), "cells.png") as served, pytest.raises(ImageError, match="larger than 1 MB; download it"):
        addresses.fetch_picture(served.url, tmp_path / "x.png")


def test_user_and_password_are_sent_and_not_shown(tmp_path):
    with serve(b"x", "cells.png") as served:
        address = served.url.replace("://", "://me:p%40ss@")
        addresses.fetch_picture(address, tmp_path / "x.png")
        assert served.authorizations == [f"Basic {base64.b64encode(b'me:p@ss').decode()}"]
        served.status = 401
        with pytest.raises(ImageError, match="the server answered 401") as caught:
            addresses.fetch_picture(address, tmp_path / "x.png")
    assert str(caught.value).startswith(f"{served.url}: ")


@pytest.mark.parametrize(
    "address, shown, name",
    [
        ("rtsp://me:pass@door:554/stream1?x=1", "rtsp://door:554/stream1?x=1", "stream1"),
        ("rtsp://me:p@ss@door:554", "rtsp://door:554", "door_554"),
        ("https://example.org/a@b/c.png", "https://example.org/a@b/c.png", "c.png"),
    ],
)
def test_names_of_addresses(address, shown, name):
    assert (addresses.hide_password(address), str(addresses.file_name(address))) == (shown, name)


@pytest.mark.parametrize(
    "address, remedy",
    [
        ("file:///a.mp4", "without file://"),
        ("gopher://a", "addresses begin with http://"),
        ("http://[a/b.png", "is not a valid address"),
    ],
)
def test_addresses_that_cannot_be_read(address, remedy):
    with pytest.raises(InputError, match=remedy):
        addresses.check_address(address)
