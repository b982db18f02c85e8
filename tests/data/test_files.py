"""Atomic writes: a file appears complete or not at all, and errors are those of the user."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import InputError
from data.files import (
    as_path,
    atomic_write,
    check_room,
    check_writable,
    json_damage,
    open_regular,
    temporary_folder,
    write_error,
)
from data.images import ImageError, find_images, read_image


@settings(max_examples=40)
@given(content=st.binary(max_size=5000), durable=st.booleans(), before=st.none() | st.binary(max_size=50))
def test_content_is_complete_and_no_other_file_is_left(tmp_path_factory, content, durable, before):
    path = tmp_path_factory.mktemp("whole") / "new" / "results.json"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_bytes(content)
        assert (path.read_bytes() if before is not None else path.exists()) == (before if before is not None else False)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_is_written_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.json"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_hidden_in_the_same_folder_with_the_same_suffix(tmp_path):
    with atomic_write(tmp_path / "a.tar.png") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".png"


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path):
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize(
    "place",
    ["a_file/results.json", "a_folder", "a" * 300 + ".json"],
    ids=["below a file", "a folder", "name too long"],
)
def test_a_place_that_cannot_be_written_is_one_line_about_it(tmp_path, place):
    (tmp_path / "a_file").write_text("not a folder")
    (tmp_path / "a_folder").mkdir()
    with pytest.raises(InputError) as caught, atomic_write(tmp_path / place) as temporary:
        temporary.write_text("x")
    assert str(caught.value).startswith(str(tmp_path / place))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a_file").read_text() == "not a folder"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_file", "a_folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"), atomic_write(tmp_path / "locked" / "a") as temporary:
        temporary.write_text("x")


@pytest.mark.parametrize("place", [".", "", "/"])
def test_a_place_without_a_file_name_is_a_user_error(place):
    with pytest.raises(InputError), atomic_write(Path(place)) as temporary:
        temporary.write_text("x")


def test_a_failing_rename_is_a_user_error_and_cleans_up(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left on device"), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EDQUOT, "remove files of yours"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "a disk that is not read-only"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.ENAMETOOLONG, "a shorter name"),
        (errno.EEXIST, "a link to nothing"),
        (errno.EIO, "give another path"),
        (None, "give another path"),
    ],
)
def test_the_remedy_fits_the_error(number, remedy):
    error = OSError(number, "the reason") if number else OSError("the reason")
    message = str(write_error(Path("a.json"), error))
    assert message.startswith("a.json: cannot be written (the reason); ") and remedy in message
    assert ("disk space" in message) == (number == errno.ENOSPC)


def test_a_folder_that_is_a_link_to_nothing_is_said_so(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "missing")
    with pytest.raises(InputError, match="a.json: cannot be written .* a link to nothing"):
        check_writable(tmp_path / "results" / "a.json")


def test_a_link_under_a_temporary_name_is_not_followed(tmp_path, monkeypatch):
    """Another user of a shared folder may have put it there, if the name can be foreseen."""
    monkeypatch.setattr("data.files.secrets.token_hex", lambda _: "0" * 16)
    victim = tmp_path / "victim"
    (tmp_path / f".{os.getpid()}-{'0' * 16}.json").symlink_to(victim)
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(InputError, match="a.json: cannot be written"):
            write(tmp_path / "a.json")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("x" * 300, "File name too long.*give a shorter name"), ("x" * 300 + "/a", "too long"), ("a\0b", "NUL character")],
)
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name, says):
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(InputError, match=says) as caught:
            write(tmp_path / name)
        assert "\0" not in str(caught.value)


def test_durable_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    happened = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (happened.append("fsync"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (happened.append("replace"), replace(self, target))[1])
    with atomic_write(tmp_path / "a", durable=True) as temporary:
        temporary.write_text("x")
    assert happened == ["fsync", "replace"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_devices_are_not_replaced(tmp_path):
    """For `--json /dev/stdout` or `>(gzip)` a rename would replace the device by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with suppress(InputError), atomic_write(pipe) as temporary:
            temporary.write_text("content")
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_without_a_reader_is_refused_and_a_reader_waits_for_the_output(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(InputError, match="a pipe that no program reads"):
            write(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable(pipe)
        with pytest.raises(BlockingIOError):  # not the end: a writer is there
            os.read(reader, 10)
        with atomic_write(pipe) as temporary:
            temporary.write_bytes(b"content")
        assert (os.read(reader, 10), os.read(reader, 10)) == (b"content", b"")
    finally:
        os.close(reader)


def test_input_files_are_not_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_text("old")
    (tmp_path / "link.jpg").symlink_to("photo.jpg")
    for name in ("photo.jpg", "link.jpg", "../" + tmp_path.name + "/photo.jpg"):
        with pytest.raises(InputError, match="is read too"):
            check_writable(tmp_path / name, read=[tmp_path / "gone", tmp_path / "photo.jpg"])
    check_writable(tmp_path / "new.jpg", read=[tmp_path / "new.jpg", tmp_path / "photo.jpg"])
    check_writable(tmp_path / "photo.jpg", read=[])
    assert (tmp_path / "photo.jpg").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_temporary_folder_is_removed_and_named_if_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        (folder / "a").touch()
        assert folder.parent == tmp_path
    says = re.escape(f"{tmp_path}: temporary files cannot be written there (No space left on device)") + ".* TMPDIR"
    with pytest.raises(InputError, match=says), temporary_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room on a disk")
def test_room_for_a_file(tmp_path):
    check_room(tmp_path, 1 << 20)
    with pytest.raises(OSError, match="No space left|File too large"):
        check_room(tmp_path, 1 << 60)
    assert not list(tmp_path.iterdir())


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for odd in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="a pipe or a device"):
            open_regular(odd)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"content"


def test_a_check_leaves_no_new_folder(tmp_path):
    check_writable(tmp_path / "a" / "b" / "c.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    check_writable(tmp_path / "there" / "b" / "c.json")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("value", [None, 3, b"a.png", ""], ids=repr)
def test_what_is_no_path_of_a_file_is_refused(value):
    with pytest.raises(InputError, match="expected the path of a file"):
        as_path(value)


def test_a_number_of_thousands_of_digits_is_no_advice_on_python():
    with pytest.raises(ValueError) as error:
        json.loads("9" * 5000)
    assert "sys." not in json_damage(error.value)


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    reason = "link.jpg: is a link to gone.jpg, which does not exist"
    with pytest.raises(ImageError, match=f"{reason}$"):
        read_image(tmp_path / "link.jpg")
    with pytest.raises(InputError, match=f"{reason}; give a picture"):
        find_images([tmp_path / "link.jpg"])
