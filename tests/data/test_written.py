"""Outputs replace outputs of earlier runs and no other file."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from config.base import PROJECT
from config.errors import InputError
from data.images import find_images, read_image, write_image
from data.written import LIST_FILE, check_output_files, write_drawing, write_json, write_output
from tests.support.programs import run_python
from tools.predict.picture_files import WRITABLE

IMAGE = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)


def test_the_pictures_that_the_project_brings_are_no_outputs():
    """A drawing of the same name would replace them. Drawing them again in this folder makes them outputs."""
    with pytest.raises(InputError, match="not written by this project"):
        check_output_files([PROJECT / "images" / "test" / "shapes_01.jpg"])


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_drawing_of_any_format_is_replaced(tmp_path, suffix):
    path = tmp_path / f"no\n1{suffix}"
    check_output_files([path])
    for image in (IMAGE, IMAGE[::-1], IMAGE):
        write_drawing(path, image)
        check_output_files([path])
    assert read_image(path).shape == IMAGE.shape
    assert find_images([tmp_path]) == [path]


@pytest.mark.parametrize("suffix", WRITABLE)
def test_other_files_are_not_replaced(tmp_path, suffix):
    photo, drawing = tmp_path / f"photo{suffix}", tmp_path / f"drawing{suffix}"
    write_image(photo, IMAGE)
    write_drawing(drawing, IMAGE)
    with pytest.raises(InputError, match="photo.*: not written by this project"):
        check_output_files([drawing, photo])
    write_image(drawing, IMAGE[::-1])  # the user's own file under the name of a drawing
    with pytest.raises(InputError, match="drawing.*: not written by this project"):
        check_output_files([drawing])


def test_an_empty_file_is_replaced_but_not_a_link_to_one(tmp_path):
    """A script may have created the file for the output; a link such as /dev/stdout would be replaced by a file."""
    (tmp_path / "empty.json").touch()
    check_output_files([tmp_path / "empty.json"])
    (tmp_path / "link.json").symlink_to("empty.json")
    with pytest.raises(InputError, match=r"link\.json: not written by this project"):
        check_output_files([tmp_path / "link.json"])


def test_a_copied_folder_and_a_damaged_list(tmp_path):
    write_drawing(tmp_path / "a" / "1.png", IMAGE)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    check_output_files([tmp_path / "b" / "1.png", tmp_path / "b" / "new.png"])
    with (tmp_path / "b" / LIST_FILE).open("ab") as stream:
        stream.write(b"\xff\n[\n")
    check_output_files([tmp_path / "b" / "1.png"])
    (tmp_path / "b" / LIST_FILE).write_text("")
    with pytest.raises(InputError, match=r"1\.png"):
        check_output_files([tmp_path / "b" / "1.png"])


def test_a_file_of_another_kind_is_not_replaced_but_results_are(tmp_path):
    path, result = tmp_path / "train.json", tmp_path / "found.json"
    for content in ("a", "b", "a"):
        write_json(path, content, kind="annotations")
        check_output_files([path], kind="annotations")
    for kind in ("results", "annotations of shapes", "network"):
        with pytest.raises(
            InputError, match=r"train\.json \(annotations\): would be replaced by a file of another kind"
        ):
            check_output_files([path], kind=kind)
    write_json(result, "a")
    check_output_files([result], kind="network")


def test_a_file_listed_by_an_earlier_version_is_replaced_by_any_kind(tmp_path):
    path = tmp_path / "train.json"
    write_json(path, "a")  # the list had no kinds
    check_output_files([path])
    write_json(path, "a", kind="annotations")  # and has one now
    with pytest.raises(InputError, match="another kind"):
        check_output_files([path])


def test_the_list_does_not_grow_when_drawings_are_repeated(tmp_path):
    for _ in range(3):
        write_drawing(tmp_path / "1.png", IMAGE)
    assert len((tmp_path / LIST_FILE).read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_list_that_is_no_file_is_refused(tmp_path, kind):
    """A link would let its target be changed, and a pipe would never be opened."""
    folder, kept = tmp_path / "drawn", tmp_path / "kept.txt"
    folder.mkdir()
    kept.write_text("keep")
    make = {"link": lambda path: path.symlink_to(kept), "pipe": os.mkfifo, "folder": Path.mkdir}[kind]
    make(folder / LIST_FILE)
    for write in (lambda path: check_output_files([path]), lambda path: write_drawing(path, IMAGE)):
        with pytest.raises(InputError, match=f"{LIST_FILE}: not a regular file.*remove it"):
            write(folder / "a.png")
    assert kept.read_text() == "keep" and [path.name for path in folder.iterdir()] == [LIST_FILE]


def test_a_large_output_is_read_in_pieces(tmp_path):
    """The size of a file in memory would be 64 MiB."""
    tracemalloc.start()
    with write_output(tmp_path / "large") as temporary, temporary.open("wb") as stream:
        stream.truncate(1 << 26)
    check_output_files([tmp_path / "large"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


def test_an_output_can_be_a_device(tmp_path):
    before = set(Path("/dev").iterdir())
    check_output_files([Path("/dev/null")])
    write_json("/dev/null", [])
    assert set(Path("/dev").iterdir()) == before and not Path("/dev/null").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locales")
@pytest.mark.parametrize("mode", ["0", "1"])
def test_the_list_is_read_in_every_locale(tmp_path, mode):
    """With the mode 0 of UTF-8, Python reads names in the encoding of the locale, here ASCII."""
    folder = tmp_path / "zellen é 细胞"
    write_drawing(folder / "zürich.png", IMAGE)
    code = (
        "import pathlib, sys; from data.written import check_output_files\n"
        "check_output_files(pathlib.Path(sys.argv[1]).glob('*.png'))"
    )
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": mode}
    done = run_python("-c", code, folder, environment={**os.environ, **locale})
    assert done == (0, "", "")
