"""Checkpoints that were made for other settings or another config than the one that runs them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from config import load_config
from config.base import PROJECT
from config.errors import InputError
from tools.common.checkpoint import load_checkpoint, save_checkpoint
from tools.predict.load import load_predictor, network_source

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"
GRIDS = ("head.num_grids=(24,)", "head.strides=(8,)")


def write_changed(folder: Path, **changes: object) -> Path:
    """Write the checkpoint of config 20 with other fields."""
    save_checkpoint(folder / "changed.pdparams", replace(load_checkpoint(WEIGHTS), **changes))
    return folder / "changed.pdparams"


def source_of(path: Path, *overrides: str, config: int = 20):
    return network_source(load_config(config, overrides), path, overrides=overrides)


def test_a_network_with_other_grids_runs_without_its_scale_ranges(tmp_path):
    """Which are of its training, and so not in the checkpoint."""
    found = source_of(write_changed(tmp_path, overrides=GRIDS)).config
    assert (found.head.num_grids, found.head.strides) == ((24,), (8,))


def test_settings_of_a_checkpoint_that_cannot_be_name_the_file(tmp_path):
    path = write_changed(tmp_path, overrides=("data.mean=a",))
    with pytest.raises(InputError, match=f"{path}: its settings do not fit config solov2_tiny_shapes; .*data.mean"):
        source_of(path)


def test_a_checkpoint_of_another_config_is_named(tmp_path, capsys):
    path = write_changed(tmp_path, config_name="solov2_tiny_nuclei")
    assert source_of(path).config.number == 20
    line = f"{path}: was made for config 21 (solov2_tiny_nuclei) and runs with the settings of solov2_tiny_shapes\n"
    assert capsys.readouterr().err == line
    source_of(WEIGHTS)
    assert capsys.readouterr().err == ""


def test_the_remedy_for_weights_that_do_not_fit_is_not_what_was_done():
    with pytest.raises(InputError, match=r"it was made for this config: leave out -o, or undo"):
        source_of(WEIGHTS, "head.channels=32").build()
    with pytest.raises(InputError, match=re.escape("use --config=20 (solov2_tiny_shapes), which it was made for")):
        source_of(WEIGHTS, config=21).build()


def test_an_untrained_network_has_the_classes_of_its_annotations(tmp_path):
    annotations = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(annotations))
    overrides = [f"train_path={tmp_path / 'train.json'}"]
    source = network_source(load_config(20, overrides), None, untrained=0)
    assert (source.classes.names, source.classes.ids, source.config.num_classes) == (("a", "b"), (3, 7), 2)
    with pytest.raises(InputError, match="nothing.json: cannot be read"):
        network_source(load_config(20, ["train_path=nothing.json"]), None, untrained=0)
    assert network_source(load_config(20), None, untrained=0).config.num_classes == 8


def test_a_config_class_of_a_script_has_no_number_to_train_it_by():
    kind = type(load_config(20))

    class Mine(kind):
        pass

    with pytest.raises(InputError, match="no such checkpoint; give the file of its weights"):
        load_predictor(Mine())
