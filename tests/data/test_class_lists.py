"""Files of class names: names, category ids and mistakes."""

from __future__ import annotations

import os

import pytest

from config.base import PROJECT, Config
from config.errors import InputError
from data.class_lists import ClassList, read_class_list


@pytest.fixture
def class_list(tmp_path):
    """Write a class list and return its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "classes.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    ("content", "names", "ids"),
    [
        ("cat\ndog", ("cat", "dog"), (1, 2)),
        ("cat\n", ("cat",), (1,)),
        ("18\tdog\n1\tperson\n", ("dog", "person"), (18, 1)),
        ("0\tcat\n", ("cat",), (0,)),
        ("cat\r\ndog\r\n", ("cat", "dog"), (1, 2)),
        ("\ncat\n\n  \ndog\n\n", ("cat", "dog"), (1, 2)),
        ("  hot dog \n3 kings\n", ("hot dog", "3 kings"), (1, 2)),
        ("7\t hot dog\n", ("hot dog",), (7,)),
        ("Hündchen\n猫\n", ("Hündchen", "猫"), (1, 2)),
    ],
    ids=["names", "one", "ids", "id 0", "CRLF", "blank lines", "spaces", "space after tab", "UTF-8"],
)
def test_names_and_ids(class_list, content, names, ids):
    assert read_class_list(class_list(content)) == ClassList(names=names, ids=ids)


def test_coco_has_its_80_classes_with_the_gaps_in_their_ids():
    coco = read_class_list(PROJECT / Config.classes_path)
    assert len(coco) == 80
    assert (coco.names[0], coco.ids[0], coco.names[-1], coco.ids[-1]) == ("person", 1, "toothbrush", 90)
    assert list(coco.ids) == sorted(coco.ids)
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(coco.ids)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no classes"),
        ("\n \n\t\n", "has no classes"),
        ("cat\ndog\ncat\n", "has the name cat more than once"),
        ("1\tcat\n2\tdog\n1\tkite\n", "has the id 1 more than once"),
        ("one\tcat\n", "'one'.*an integer id, a tab and a name"),
        ("1.5\tcat\n", "'1.5'.*an integer id, a tab and a name"),
        ("1\tcat\tdog\n", "an integer id, a tab and a name"),
        ("Hündchen\n".encode("latin-1"), "UTF-8"),
        ("cat\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_remedy(class_list, content, says):
    path = class_list(content)
    with pytest.raises(InputError, match=says) as error:
        read_class_list(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(InputError, match="cannot read the class list"):
            read_class_list(path)
    with pytest.raises(InputError, match="a pipe or a device"):
        read_class_list(os.devnull)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n", encoding="utf-8-sig")  # as Notepad on Windows writes it
    assert read_class_list(path).names == ("cat", "dog")


@pytest.mark.parametrize("content", ["7\t\n8\tdog\n", "cat\n18\tdog\n"], ids=["id without name", "ids on some lines"])
def test_lines_of_two_kinds_are_refused(tmp_path, content):
    path = tmp_path / "classes.txt"
    path.write_text(content)
    with pytest.raises(InputError, match="some lines lack"):
        read_class_list(path)
