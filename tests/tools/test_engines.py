"""Every engine says what the dynamic graph says, for pictures and batches of any size."""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import numpy as np
import pytest

from config import load_config
from config.engines import PACKAGES
from config.errors import InputError
from model.solov2 import RawPredictions
from tests import tiny
from tools.engines import choose_engine, compiled_engine, dynamic_engine
from tools.predictor import Predictor, untrained_network

SIZES = ((1, 256, 320), (1, 320, 256), (2, 256, 256))


def needs_packages_of(engine: str):
    missing = [package for package in PACKAGES.get(engine, ()) if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


COMPILED = [pytest.param(engine, marks=needs_packages_of(engine)) for engine in ("static", "onnx", "openvino")]


@lru_cache(maxsize=1)
def config():
    return load_config(tiny.CONFIG, tiny.OVERRIDES)


def compiled(engine: str, precision: str = "fp32"):
    return compiled_engine(engine, precision, lambda: untrained_network(config(), 0), config(), {}, "untrained", 0)


def assert_equal(ours: RawPredictions, expected: RawPredictions, tolerance: float) -> None:
    """Except for cells as probable as a neighbour, of which rounding says which one is suppressed."""
    for name, mine, other in zip(expected._fields, ours, expected):
        mine, other = mine.numpy(), other.numpy()
        assert mine.shape == other.shape and mine.dtype == other.dtype == np.float32, name
        differences = np.abs(mine - other)
        if name == "scores" and tolerance:
            suppressed_in_one = (mine == 0) != (other == 0)
            assert suppressed_in_one.mean() <= 1e-3
            differences[suppressed_in_one] = 0
        assert differences.max() <= tolerance * np.abs(other).max(), name


@pytest.mark.parametrize("engine", COMPILED)
def test_equals_the_dynamic_graph(engine):
    dynamic, other = dynamic_engine(untrained_network(config(), 0)), compiled(engine)
    random = np.random.default_rng(0)
    batches = [random.normal(size=(count, 3, height, width)).astype(np.float32) for count, height, width in SIZES]
    found = [other(batch) for batch in batches]  # all before the comparison: one must not change the one before
    for batch, raw in zip(batches, found):
        assert_equal(raw, dynamic(batch), 1e-4)


def test_auto_is_compiled_on_a_cpu_and_dynamic_on_a_gpu():
    assert choose_engine("auto", "fp32", "cpu") == "static"
    assert choose_engine("auto", "fp32", "gpu:0") == "dynamic"


@pytest.mark.parametrize(
    ("engine", "precision", "device", "words"),
    [
        ("dynamic", "bf16", "cpu", ["--precision bf16", "--engine static"]),
        ("onnx", "fp32", "gpu:0", ["--engine onnx", "--device cpu"]),
        ("auto", "bf16", "gpu:0", ["--precision bf16", "--device cpu"]),
    ],
)
def test_what_an_engine_cannot_do_is_one_line(engine, precision, device, words):
    with pytest.raises(InputError) as error:
        choose_engine(engine, precision, device)
    assert all(word in str(error.value) for word in words)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnxruntime and paddle2onnx; pip install '.\[onnx\]'"):
        choose_engine("onnx", "fp32", "cpu")


def test_other_weights_are_never_served_the_network_of_the_first(capfd):
    first, second = (
        Predictor(tiny.CONFIG, untrained=seed, overrides=tiny.OVERRIDES, engine="static") for seed in (0, 1)
    )
    picture = first.prepare(tiny.scene(0))
    ours, theirs = (predictor.run([picture]) for predictor in (first, second))
    assert np.abs(ours.mask_feats.numpy() - theirs.mask_feats.numpy()).max() > 0.1
    capfd.readouterr()
    again = Predictor(tiny.CONFIG, untrained=1, overrides=tiny.OVERRIDES, engine="static")
    assert "compiling" not in capfd.readouterr().err
    assert_equal(again.run([picture]), theirs, 0)
