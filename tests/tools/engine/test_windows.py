"""A network with fine masks in windows: it learns, and every engine and export finds the same instances."""

from __future__ import annotations

import numpy as np
import pytest

from config import load_config
from tests.support import tiny, trainings
from tests.support.exports import exported, needs_onnx
from tests.support.slow import slow_except_first
from tests.tools.engine.test_engines import COMPILED
from tools.deploy.exported import exported_predictor
from tools.predict.load import load_predictor

WINDOWS = ("mask_feat_head.stride=2", "head.reach=20", "head.strides=1,1,2,4,4")
OVERRIDES = (*tiny.OVERRIDES, *WINDOWS)


def found_by(predictor):
    return [predictor(tiny.scene(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def expected():
    found = found_by(tiny.predictor(tiny.CONFIG, untrained=0, overrides=OVERRIDES))
    assert sum(map(len, found)) > 6
    for instances in found:  # in windows of 40 pixels of the masks, 80 of the input
        widths, heights = (instances.boxes[:, 2:] - instances.boxes[:, :2]).T
        assert widths.max(initial=0) <= 81 * 1.25 and heights.max(initial=0) <= 81 * 1.25
    return found


def assert_same(found, expected):
    for one, other in zip(found, expected):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        differing = (one.masks != other.masks).sum(axis=(1, 2))
        assert (differing <= 0.01 * other.masks.sum(axis=(1, 2)) + 2).all()


@pytest.mark.parametrize("engine", COMPILED)
def test_engines_agree(engine, expected):
    assert_same(found_by(load_predictor(tiny.CONFIG, untrained=0, overrides=OVERRIDES, engine=engine)), expected)


@needs_onnx
@slow_except_first("way", [(), ("--end-to-end",), ("--end-to-end", "--input-size=64x96")])
def test_exported_networks_agree(way, expected):
    assert_same(found_by(exported_predictor(exported(*way, overrides=OVERRIDES))), expected)


def test_it_learns(tmp_path):
    run = trainings.trainer(tmp_path, *WINDOWS[:2], "train_cfg.epochs=4", "train_cfg.lr=0.01", "train_cfg.eval_every=0")
    run.run()
    losses = trainings.losses(tmp_path)
    assert np.isfinite(losses).all() and np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1


def test_other_kinds_of_networks_have_no_windows():
    with pytest.raises(Exception, match="reach"):
        load_config(tiny.CONFIG, [*tiny.OVERRIDES, "head.kind=solo", "head.reach=5"])
