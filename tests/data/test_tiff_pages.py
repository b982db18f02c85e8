"""The number of pages in TIFF files, damaged ones too."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data.tiff_pages import count_pages

GREY = np.arange(9 * 13, dtype=np.uint16).reshape(9, 13)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pages", [1, 2, 5])
def test_the_pages_of_a_tiff_are_counted(tmp_path, pages, big):
    first, *others = [Image.fromarray(GREY[number:]) for number in range(pages)]
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=others, big_tiff=big)
    assert count_pages(path) == pages
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        assert 1 <= count_pages(path) <= pages


def test_files_without_pages_have_one(tmp_path):
    circle = b"MM\0*" + b"\0\0\0\x08" + b"\0\1" + bytes(12) + b"\0\0\0\x08"
    far = b"II+\0\x08\0\0\0" + b"\xff" * 8
    for content in (b"", b"II", b"\x89PNG\r\n", circle, far):
        (tmp_path / "a").write_bytes(content)
        assert count_pages(tmp_path / "a") == 1
    assert count_pages(tmp_path / "gone") == 1
