"""The folder that the pictures of a data set have in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.errors import InputError
from data.files import common_folder


def test_folders_on_two_drives_of_windows_are_one_line(monkeypatch):
    assert common_folder([Path("/a/b/c"), Path("/a/b/d")]) == Path("/a/b")

    def refuse(paths: object) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", refuse)
    with pytest.raises(InputError, match="/a: the files are on the drives"):
        common_folder([Path("/a"), Path("/b")])
