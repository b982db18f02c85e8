"""The trained model in the repository is the default of all programs and finds drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest

from config import load_config
from config.base import PROJECT
from data.images import find_images
from tests.support import tiny
from tests.support.programs import run_python
from tools.common.cli import DEFAULT_CONFIG
from tools.draw_test_images import PICTURES, scene_of

CONFIG = load_config(DEFAULT_CONFIG)
WEIGHTS = CONFIG.model_path("test_cfg")


def test_it_is_small():
    assert WEIGHTS.stat().st_size < 8e6


def test_it_finds_most_shapes_of_the_test_pictures():
    predictor = tiny.predictor(DEFAULT_CONFIG)
    hits = []
    for number, path in enumerate(find_images([PROJECT / CONFIG.demo_input])):
        scene, found = scene_of(number, seed=0), predictor(path)
        for mask, class_index in zip(scene.masks, scene.classes):
            candidates = found.masks[found.classes == class_index]
            overlaps = [(mask & other).sum() / (mask | other).sum() for other in candidates]
            hits.append(max(overlaps, default=0) >= 0.75)
    assert number + 1 == len(PICTURES)
    assert np.mean(hits) > 0.7


@pytest.mark.slow
def test_its_average_precision_is_that_of_the_readme(tmp_path):
    """The validation set is drawn for the test."""
    annotations = tmp_path / "val" / "annotations.json"
    paths = ("-o", f"val_path={annotations}", "-o", f"val_pre_path={annotations.parent / 'images'}")
    few = ("-o", "shapes.train_pictures=1", "-o", f"train_path={tmp_path / 'train' / 'annotations.json'}")
    few += ("-o", f"train_pre_path={tmp_path / 'train' / 'images'}")
    for command in (["tools/draw_shapes.py", *few, *paths], ["eval.py", *paths, "--output", tmp_path / "report"]):
        done = run_python(*command)
        assert done.returncode == 0, done.stderr
    (percent,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("mask ")]
    assert float(percent) >= 76
    assert f"| {percent} on drawn shapes |" in (PROJECT / "README.md").read_text()
