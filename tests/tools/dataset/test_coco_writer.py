"""Annotation files are checked before they appear, and errors of our program are not blamed on a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import InputError
from data.class_lists import ClassList
from data.coco_rows import CocoInstance, CocoPicture
from tools.dataset.coco_writer import UnusableFileError, choose_validation, convert_files, write_annotations


def test_file_that_pycocotools_reads_otherwise_does_not_appear(tmp_path, monkeypatch):
    square = CocoInstance.from_polygons("cat", [[0, 0, 5, 0, 5, 5, 0, 5]], height=9, width=9)
    monkeypatch.setattr(CocoInstance, "area", 7)
    classes = ClassList(names=("cat",), ids=(1,))
    with pytest.raises(RuntimeError, match="annotation 1 has an area of 7 and 25 pixels"):
        write_annotations(tmp_path / "a.json", [CocoPicture("a.png", 9, 9, (square,))], classes)
    assert not list(tmp_path.iterdir())


def test_error_of_the_program_is_not_taken_for_one_of_a_file():
    def fail(item):
        raise KeyError(item)

    with pytest.raises(KeyError):
        convert_files(fail, [1, 2])


def test_results_keep_their_order_and_unusable_files_are_counted_and_named(capsys):
    def half(number: int) -> int:
        if number % 2:
            raise UnusableFileError(f"{number}.json:\nodd")
        return number // 2

    assert convert_files(half, range(100)) == (list(range(50)), 50)
    assert capsys.readouterr().err.splitlines()[-1] == "skipped 99.json: odd"
    with pytest.raises(InputError, match="none of 2 files could be converted"):
        convert_files(half, [1, 3])


@given(
    names=st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=30),
    share=st.floats(0.001, 0.999),
    seed=st.integers(0, 9),
)
def test_share_of_validation(names, share, seed):
    chosen = choose_validation(sorted(names), share=share, seed=seed)
    assert chosen < names
    assert chosen
    assert abs(len(chosen) - share * len(names)) <= 1
    assert chosen == choose_validation(sorted(names, reverse=True), share=share, seed=seed)


def test_most_pictures_stay_where_they_are_when_some_are_added():
    names = [f"{number}.jpg" for number in range(300)]
    before, after = (choose_validation(names[:count], share=0.2, seed=0) for count in (200, 300))
    assert len(before & after) > 30
