"""Test outputs that are written piece by piece: their content at the end, after an error and after Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.errors import InputError
from data.growing import GrowingOutput
from data.written import check_output_files


def json_list(path):
    return GrowingOutput(path, start="[", between=",\n", end=lambda: "]\n")


@pytest.mark.parametrize("rows", [[], [1], [{"a": "ä"}, 2, 3]])
def test_pieces_make_a_whole_file_that_may_be_written_again(tmp_path, rows):
    path = tmp_path / "new" / "rows.json"
    with json_list(path) as output:
        for row in rows:
            output.add(json.dumps(row))
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8")) == rows
    check_output_files([path])
    assert {file.name for file in path.parent.iterdir()} == {"rows.json", ".written"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_keeps_what_was_added(tmp_path, error):
    with pytest.raises(error), json_list(tmp_path / "rows.json") as output:
        output.add("1")
        raise error
    assert json.loads((tmp_path / "rows.json").read_text()) == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_error_before_the_first_piece_leaves_what_was_there(tmp_path, error):
    (tmp_path / "rows.json").write_text("old")
    with pytest.raises(error), json_list(tmp_path / "rows.json"):
        raise error
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_rest_of_an_interrupted_write_is_cut_off(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), json_list(tmp_path / "rows.json") as output:
        output.add("1")
        whole = output._stream

        class Interrupted:
            def write(self, content):
                whole.write(content[:3])
                output._stream = whole
                raise KeyboardInterrupt

        output._stream = Interrupted()
        output.add("23456")
    assert json.loads((tmp_path / "rows.json").read_text()) == [1]


def test_nothing_is_added_to_a_file_that_is_kept(tmp_path):
    """A thread that ends the program keeps the file while others still work."""
    with json_list(tmp_path / "rows.json") as output:
        output.keep_if_begun()
        output.add("1")
    assert not (tmp_path / "rows.json").exists()
    with json_list(tmp_path / "rows.json") as output:
        output.add("1")
        output.keep_if_begun()
        output.add("2")
    assert json.loads((tmp_path / "rows.json").read_text()) == [1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_with_the_name():
    says = r"/dev/full: cannot be written \(No space left on device\); free disk space"
    with pytest.raises(InputError, match=says), json_list(Path("/dev/full")):
        pass


def test_a_device_is_written_to(tmp_path):
    with json_list(Path("/dev/null")) as output:
        output.add("1")
