"""The pictures of a data set that are used for training, and those that validation uses too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from config import load_config
from config.errors import InputError
from tests.support.squares import GRIDS, write_squares
from tools.dataset.splits import describe_overlap, read_splits, records_to_learn

NAMES = ("cat", "dog")


def names_to_learn(overrides: list[str]) -> list[str]:
    config = load_config(20, overrides)
    return [record.file_name for record in records_to_learn(read_splits(config, ["train"])["train"], config)]


def test_pictures_without_instances_are_trained_on_where_asked_for(tmp_path):
    overrides = [*GRIDS, *write_squares(tmp_path, "train", [[(1, 1, 20)], ()], NAMES)]
    assert names_to_learn(overrides) == ["1.png"]
    assert names_to_learn([*overrides, "train_cfg.keep_empty=true"]) == ["1.png", "2.png"]


def test_pictures_without_any_instance_are_nothing_to_learn(tmp_path):
    overrides = [*GRIDS, *write_squares(tmp_path, "train", [(), ()], NAMES)]
    with pytest.raises(InputError, match=r"train\.json: no picture has a usable annotation; .*keep_empty=true"):
        names_to_learn(overrides)
    assert names_to_learn([*overrides, "train_cfg.keep_empty=true"]) == ["1.png", "2.png"]


def overlap_of(folder: Path, train: Sequence[tuple], val: Sequence[tuple], **options: bool) -> list[str]:
    """Return the lines about a training and a validation set of pictures of squares."""
    overrides = [*GRIDS, *write_squares(folder, "train", train, NAMES), *write_squares(folder, "val", val, NAMES)]
    (folder / "val" / "2.png").unlink()
    (folder / "val" / "2.png").symlink_to(folder / "train" / "1.png")
    return describe_overlap(read_splits(load_config(20, overrides), ["train", "val"]), **options)


def test_pictures_for_training_and_validation_are_named(tmp_path):
    ones, others = [(1, 1, 20)], [(5, 5, 30)]
    shared = (
        f"1 of 3 pictures of {tmp_path / 'val.json'} are also in {tmp_path / 'train.json'}, which makes the AP too "
        "high: '2.png'; remove them from one of the two"
    )
    assert overlap_of(tmp_path, [ones, ones], [others, ones, others]) == [shared]
    pictures = [[ones, ones, ones], [ones, ones, ones]]
    assert overlap_of(tmp_path, *pictures) == [shared]
    assert overlap_of(tmp_path, *pictures, copies=True) == [
        shared,
        shared.replace("1 of 3", "2 of 3")
        .replace("are also in", "have the name and content of others in")
        .replace("'2.png'", "'1.png', '3.png'"),
    ]


def test_training_alone_has_no_overlap(tmp_path):
    overrides = [*GRIDS, *write_squares(tmp_path, "train", [[(1, 1, 20)]], NAMES)]
    assert describe_overlap(read_splits(load_config(20, overrides), ["train"])) == []
