"""The pictures of a data set that are used for training."""

from __future__ import annotations

import pytest

from config import load_config
from config.errors import InputError
from tests.support.squares import GRIDS, write_squares
from tools.dataset.splits import read_splits, records_to_learn

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
