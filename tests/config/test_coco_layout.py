"""`--data-root` takes all files of a data set in COCO's layout from one folder."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser
from pathlib import Path

import pytest

import eval as evaluation
import train as training
from config import load_config
from config.base import Config
from config.coco_layout import DEFAULT_ROOT, LAYOUT, data_root_overrides
from tests.support import trainings
from tests.support.programs import override_options, run_main
from tools import browse_dataset, check_dataset
from tools.common.cli import add_data_options

PATHS = {f"{split}_{field}" for split in ("train", "val", "test") for field in ("path", "pre_path")}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Return a folder with the annotations and pictures of a small data set, in COCO's layout."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        shutil.copytree(trainings.data_set() / "images", folder / f"{split}2017")
        shutil.copy(trainings.data_set() / "annotations.json", folder / LAYOUT[f"{split}_path"])
    return folder


def test_the_defaults_are_the_layout_and_all_paths_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(LAYOUT) == PATHS
    config = load_config(0, data_root_overrides("my=coco"))
    for field in PATHS:
        assert getattr(Config, field) == f"{DEFAULT_ROOT}/{LAYOUT[field]}"
        assert getattr(config, field) == f"{tmp_path}/my=coco/{LAYOUT[field]}"


@pytest.mark.parametrize("is_last", [False, True])
def test_a_path_of_o_takes_precedence(is_last):
    parser = ArgumentParser()
    add_data_options(parser)
    options = ["-oval_path=a.json", "--data-root=coco"]
    config = load_config(0, parser.parse_args(options[::-1] if is_last else options).overrides)
    assert config.val_path == "a.json" and config.val_pre_path.endswith("coco/val2017")
    assert parser.parse_args([]).overrides == []


def test_programs_find_the_data(root, tmp_path):
    options = [f"--config={trainings.CONFIG}", *override_options(*trainings.OVERRIDES), "--data-root", root]
    for program, more in (
        (training, ("--max-iters=1", "--device=cpu", "--output", tmp_path / "run")),
        (check_dataset, ("--processes=0", "--output", tmp_path / "checked")),
        (browse_dataset, ("--count=1", "--output", tmp_path / "pictures")),
    ):
        done = run_main(program.main, *options, *more)
        assert done.returncode == 0, done.stderr
    (weights,) = (tmp_path / "run").glob("step_*.pdparams")
    done = run_main(evaluation.main, *options, "--engine=dynamic", "--weights", weights, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"{trainings.PICTURES} pictures" in done.stdout


def test_missing_files_are_one_line_with_the_layout(root, tmp_path):
    done = run_main(check_dataset.main, "--config=1", "--data-root", tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path / LAYOUT['train_path']}: cannot be read" in done.stderr
    assert all(path in done.stderr for path in LAYOUT.values())
    shutil.copytree(root / "annotations", tmp_path / "annotations")
    done = run_main(check_dataset.main, "--config=1", "--data-root", tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"is in {tmp_path / 'train2017'}" in done.stderr
    assert all(path in done.stderr for path in LAYOUT.values())
