"""Test which pictures and videos are found for `--input`: paths, addresses, cameras, lists on standard input."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.errors import InputError
from data.images import write_image
from data.videos import Video
from tests.support import tiny
from tests.support.http_files import serve
from tools.predict.sources import find_sources


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.png", "a.jpg", "inner/c.png"):
        write_image(tmp_path / name, tiny.scene(0))
    (tmp_path / "clip.MP4").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def type_lines(monkeypatch, *lines: object) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_a_folder_gives_its_pictures_and_videos(folder):
    found = find_sources([folder], every=3, limit=7)
    assert {Path(name).name for name in found.pictures} >= {"a.jpg", "b.png"}
    assert found.videos == [Video(str(folder / "clip.MP4"), 3, 7)]
    assert found.total is None
    assert set(found.files()) == {Path(name) for name in found.pictures} | {folder / "clip.MP4"}


def test_a_glob_and_a_file_that_it_names_count_once(folder):
    found = find_sources([f"{folder}/*.jpg", folder / "a.jpg", folder / "b.png"])
    assert found.pictures == [str(folder / "a.jpg"), str(folder / "b.png")]
    assert found.total == 2


def test_addresses_keep_their_place_and_are_no_files(folder):
    address = "https://example.org/x/cells.jpg?size=2"
    found = find_sources([folder / "b.png", address, folder / "a.jpg"])
    assert found.pictures == [str(folder / "b.png"), address, str(folder / "a.jpg")]
    assert found.files() == [folder / "b.png", folder / "a.jpg"]


@pytest.mark.parametrize("name", ["0", "12", "rtsp://door/1", "https://example.org/x/clip.webm", "udp://@:1234"])
def test_cameras_and_streams(name):
    found = find_sources([name], limit=5)
    assert (found.pictures, found.videos) == ([], [Video(name, 1, 5)])
    assert found.total is None


def test_a_folder_with_the_name_of_a_camera_is_a_folder(folder, monkeypatch):
    write_image(folder / "7" / "x.png", tiny.scene(0))
    monkeypatch.chdir(folder)
    assert find_sources(["7"]).pictures == ["7/x.png"]


@pytest.mark.parametrize("kind, is_picture", [("image/png", True), ("multipart/x-mixed-replace", False)])
def test_the_server_says_what_a_name_does_not(kind, is_picture):
    with serve(b"x", "show") as served:
        served.headers["Content-Type"] = kind
        found = find_sources([served.url])
    assert (len(found.pictures), len(found.videos)) == (is_picture, not is_picture)


def test_a_list_on_standard_input(folder, monkeypatch):
    type_lines(monkeypatch, folder / "b.png", "", "rtsp://door/1", folder / "a.jpg")
    found = find_sources(["-"])
    assert found.pictures == [str(folder / "b.png"), str(folder / "a.jpg")]
    assert found.videos == [Video("rtsp://door/1")]


def test_an_empty_list_and_unknown_schemes(monkeypatch):
    type_lines(monkeypatch, "", " ")
    with pytest.raises(InputError, match="standard input has no line"):
        find_sources(["-"])
    with pytest.raises(InputError, match="addresses begin with"):
        find_sources(["ftp2://a/b.png"])
