"""Every engine returns the results of the dynamic graph, for pictures and batches of any size."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
from functools import cache
from typing import Callable

import numpy as np
import paddle
import pytest
from paddle import nn

from config import load_config
from config.base import Config
from config.engines import ENGINES, PACKAGES
from config.errors import InputError
from model.layers import DeformConv2D
from model.resize import doubled
from tests.support import tiny
from tests.support.slow import slow_except_first
from tools.common.kinds import RawPredictions
from tools.engine.compiled import LOADERS, CompiledEngine, compile_engine
from tools.engine.dynamic import DynamicEngine
from tools.engine.graph_writer import write_graph
from tools.engine.openvino_graph import SignalStack
from tools.engine.select import choose_engine, has_bfloat16, has_ungrouped_deformable, unusable_reason
from tools.predict.load import load_predictor, untrained_network

SIZES = ((1, 256, 320), (1, 320, 256), (2, 256, 256))


def needs_packages_of(engine: str):
    reason = unusable_reason(engine)
    return pytest.mark.skipif(bool(reason), reason=reason or "-")


COMPILED = [pytest.param(engine, marks=needs_packages_of(engine)) for engine in ("static", "onnx", "openvino")]
# The fast tests of many networks run one engine each, because a network takes seconds to compile.
ALL_BUT_ONE_SLOW = [
    pytest.param(*param.values, marks=[*param.marks, pytest.mark.slow] if param.values[0] != "onnx" else param.marks)
    for param in COMPILED
]


PADDLE_2 = paddle.__version__.startswith("2.")
HAS_BFLOAT16 = has_bfloat16() and not PADDLE_2
REDUCED = [param for param in COMPILED if "bf16" in ENGINES[param.values[0]] and HAS_BFLOAT16]


@cache
def config(*overrides: str) -> Config:
    return load_config(tiny.CONFIG, [*tiny.OVERRIDES, *overrides])


def network(*overrides: str) -> nn.Layer:
    """Return an untrained network whose deformable convolutions move their taps."""
    found = untrained_network(config(*overrides), 0)
    for layer in found.sublayers():
        if isinstance(layer, DeformConv2D):
            layer.offset.weight.set_value(paddle.normal(std=0.05, shape=layer.offset.weight.shape))
    return found


def compiled(engine: str, precision: str = "fp32", *overrides: str) -> Callable[[np.ndarray], RawPredictions]:
    """Return a function of a batch."""
    facts = "untrained", overrides
    engine = compile_engine(engine, precision, lambda: network(*overrides), config(*overrides), {}, *facts)
    return lambda batch: engine(batch, [batch.shape[2:]] * len(batch))


def dynamic_graph(*overrides: str) -> Callable[[np.ndarray], RawPredictions]:
    engine = DynamicEngine(network(*overrides), config(*overrides))
    return lambda batch: engine(batch, [batch.shape[2:]] * len(batch))


def batches_of(*sizes: tuple[int, int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(count, 3, height, width)).astype(np.float32) for count, height, width in sizes]


def assert_equal(ours: RawPredictions, expected: RawPredictions, tolerance: float) -> None:
    """Compare, except for equally probable neighbours: rounding decides which one is suppressed."""
    assert len(ours) == len(expected)
    for number, (mine, other) in enumerate(zip(ours, expected)):
        mine, other = np.asarray(mine), np.asarray(other)
        assert mine.shape == other.shape and mine.dtype == other.dtype == np.float32, number
        differences = np.abs(mine - other)
        if number == 0 and tolerance:  # the scores
            suppressed_in_one = (mine == 0) != (other == 0)
            assert suppressed_in_one.mean() <= 1e-3
            differences[suppressed_in_one] = 0
        assert differences.max() <= tolerance * np.abs(other).max(), number


def signal_stack() -> tuple[int | None, int, int]:
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.address, stack.flags, stack.size


@pytest.mark.parametrize("engine", COMPILED)
def test_equals_the_dynamic_graph(engine):
    dynamic, other = dynamic_graph(), compiled(engine)
    batches = batches_of(*SIZES)
    found = [other(batch) for batch in batches]  # all before the comparison: one must not change the one before
    for batch, raw in zip(batches, found):
        assert_equal(raw, dynamic(batch), 1e-4)


@pytest.mark.parametrize("engine", COMPILED)
def test_a_part_of_what_was_found_stays_as_it_is(engine):
    """Whatever else of it is gone, and however often the engine runs again."""
    other = compiled(engine)
    first, *more = batches_of((2, 128, 160), *[(2, 128, 160)] * 4)
    for index in range(len(other(first))):
        part = other(first)[index][1:]
        before = part.copy()
        for batch in more:
            other(batch)
        np.testing.assert_array_equal(part, before)
        assert not np.array_equal(other(more[-1])[index][1:], before)


@pytest.mark.parametrize("heads", [("solo",), ("decoupled_solo",), ("decoupled_solo", "head.shared_tower=true")])
@pytest.mark.parametrize("engine", ALL_BUT_ONE_SLOW)
def test_other_heads_equal_those_of_the_dynamic_graph(engine, heads):
    overrides = (f"head.kind={heads[0]}", *heads[1:])
    dynamic, other = dynamic_graph(*overrides), compiled(engine, "fp32", *overrides)
    for batch in batches_of((2, 128, 160), (1, 160, 128), (1, 96, 64), (1, 96, 32)):
        assert_equal(other(batch), dynamic(batch), 1e-4)


@cache
def box_config() -> Config:
    return load_config(tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)


def compiled_boxes(engine: str, precision: str = "fp32") -> CompiledEngine:
    return compile_engine(engine, precision, lambda: untrained_network(box_config(), 0), box_config(), {}, "untrained")


@pytest.mark.parametrize("engine", COMPILED)
def test_boxes_and_masks_equal_those_of_the_dynamic_graph(engine):
    dynamic, other = untrained_network(box_config(), 0), compiled_boxes(engine)
    for batch in batches_of((2, 128, 160), (1, 160, 128), (1, 32, 96), (1, 96, 32), (1, 32, 32)):
        with paddle.no_grad():
            assert_equal(other.run_first_stage(batch), dynamic(paddle.to_tensor(batch)), 1e-4)
    random = np.random.default_rng(0)
    for count in (3, 1):
        features = paddle.to_tensor(random.normal(size=(count, 16, 14, 14)).astype(np.float32))
        classes = random.integers(0, 80, count)
        with paddle.no_grad():
            expected = dynamic.roi_head(features, paddle.to_tensor(classes))
            assert_equal(other.run_second_stage(features, classes), expected, 1e-4)


@pytest.mark.parametrize("engine", REDUCED)
def test_boxes_of_lower_precision_end_in_float32(engine):
    """Distances rounded to 8 bits would all be among a few hundred values."""
    (batch,) = batches_of((2, 128, 160))
    exact, ours = (compiled_boxes(engine, precision).run_first_stage(batch) for precision in ("fp32", "bf16"))
    for mine, other in zip(ours, exact):
        mine, other = np.asarray(mine), np.asarray(other)
        assert 0 < np.abs(mine - other).max() < 0.05 * np.abs(other).max()
    assert len(np.unique(np.asarray(ours[2]))) > 0.9 * len(np.unique(np.asarray(exact[2])))


@slow_except_first("version", [1, 2])
@pytest.mark.parametrize("engine", ALL_BUT_ONE_SLOW)
def test_deformable_layers_equal_those_of_the_dynamic_graph(engine, version):
    """Less closely: where group norm divides by next to nothing it enlarges what rounding does to the taps' places."""
    overrides = (f"head.deform_version={version}", f"mask_feat_head.deform_version={version}", *tiny.FULL_WIDTH)
    (batch,) = batches_of((2, 128, 160))
    assert_equal(compiled(engine, "fp32", *overrides)(batch), dynamic_graph(*overrides)(batch), 1e-2)


@slow_except_first(
    ("backbone", "tolerance"),
    [
        (("kind=vovnet", "depth=19", "depthwise=true"), 1e-4),
        (("kind=vovnet", "depth=19", "deform_version=2", "deform_stages=2,3,4"), 1e-2),
        (("kind=mobilenetv2", "depth=53"), 1e-4),
        (("kind=mobilenetv3", "depth=49"), 1e-4),
    ],
)
@pytest.mark.parametrize("engine", ALL_BUT_ONE_SLOW)
def test_other_backbones_equal_those_of_the_dynamic_graph(engine, backbone, tolerance):
    widths = tiny.FULL_WIDTH if "mobilenet" in backbone[0] else ()
    overrides = (*widths, *(f"backbone.{text}" for text in backbone))
    (batch,) = batches_of((2, 128, 160))
    assert_equal(compiled(engine, "fp32", *overrides)(batch), dynamic_graph(*overrides)(batch), tolerance)


@slow_except_first("kind", ["solov2", "decoupled_solo"])
@pytest.mark.parametrize("engine", REDUCED)
def test_scores_of_lower_precision_are_compared_in_float32(engine, kind):
    """All neighbours that survive are different, as in float32; the rest is rounded to 8 bits here and there."""
    (batch,) = batches_of((2, 128, 160))
    exact, ours = (compiled(engine, precision, f"head.kind={kind}")(batch) for precision in ("fp32", "bf16"))
    for mine, other in zip(ours[1:], exact[1:]):
        mine, other = np.asarray(mine), np.asarray(other)
        assert 0 < np.abs(mine - other).max() < 0.05 * np.abs(other).max()
    for scores in map(np.asarray, (exact[0], ours[0])):
        assert len(np.unique(scores[scores > 0])) > 0.99 * (scores > 0).sum()


class Doubled(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.factor = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return doubled(x * self.factor)


@pytest.mark.parametrize("engine", REDUCED)
def test_lower_precision_finds_the_places_of_large_maps(engine, tmp_path):
    """The values are rounded to 8 bits; half a pixel further are others."""
    spec = paddle.static.InputSpec([None, 4, None, None], "float32")
    write_graph(Doubled(), [spec], tmp_path / "graph", portable=engine in PACKAGES)
    maps = np.random.default_rng(0).normal(size=(1, 4, 160, 200)).astype(np.float32)
    (found,) = LOADERS[engine](tmp_path / "graph", "bf16")([maps])
    assert np.abs(found - doubled(paddle.to_tensor(maps)).numpy()).max() < 0.05


@pytest.mark.skipif(sys.platform != "linux", reason="other systems describe a stack in another way")
@pytest.mark.parametrize("engine", COMPILED)
def test_signals_are_handled_where_they_were(engine):
    """On memory that lives no longer than the network, the next signal would be a segmentation fault."""
    before = signal_stack()
    run = compiled(engine)
    run(np.zeros((1, 3, 128, 160), np.float32))
    assert signal_stack() == before


@pytest.mark.parametrize("engine", ["auto", "static", "openvino"])
def test_bfloat16_is_not_simulated(monkeypatch, engine):
    monkeypatch.setattr(paddle.base.core, "supports_bfloat16_fast_performance", lambda: False)
    with pytest.raises(InputError, match="this processor has no arithmetic in bfloat16"):
        choose_engine(engine, "bf16", "cpu", deformable=False)


def test_auto_is_the_fastest_that_is_installed(monkeypatch):
    installed = {"openvino", "onnxruntime", "paddle2onnx"}
    monkeypatch.setattr(paddle.base.core, "supports_bfloat16_fast_performance", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.3.1")

    def chosen(precision: str, device: str = "cpu") -> tuple[str, str]:
        """For an ordinary network, and for a deformable one."""
        return tuple(choose_engine("auto", precision, device, deformable=deformable) for deformable in (False, True))

    assert chosen("fp32", "gpu:0") == ("dynamic", "dynamic")
    assert chosen("fp16", "gpu:0") == ("static", "static")
    assert chosen("fp32") == ("onnx", "openvino")
    assert chosen("bf16") == ("openvino", "openvino")
    installed.remove("openvino")
    assert chosen("fp32") == ("onnx", "onnx")
    if PADDLE_2:
        with pytest.raises(InputError, match="Paddle 2.*install Paddle 3"):
            chosen("bf16")
    else:
        assert chosen("bf16") == ("static", "static")
    installed.clear()
    assert chosen("fp32") == ("static", "static")


def test_what_the_choice_depends_on():
    found = {number: has_ungrouped_deformable(load_config(number)) for number in (0, 5, 8, 9, 11, 30)}
    assert found == {0: False, 5: True, 8: True, 9: False, 11: True, 30: False}


def test_a_translator_for_another_paddle_is_none(monkeypatch):
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")
    assert choose_engine("auto", "fp32", "cpu", deformable=False) == "static"
    with pytest.raises(InputError, match="paddle2onnx 2.1.0 is for Paddle 3; install Paddle 3"):
        choose_engine("onnx", "fp32", "cpu", deformable=False)


@pytest.mark.parametrize(
    ("engine", "precision", "device", "words"),
    [
        ("dynamic", "bf16", "cpu", ["precision bf16", "engine static"]),
        ("onnx", "fp32", "gpu:0", ["engine onnx", "device cpu"]),
        ("auto", "bf16", "gpu:0", ["precision bf16", "device cpu"]),
        ("auto", "fp16", "cpu", ["precision fp16", "precision bf16"]),
        ("openvino", "fp16", "gpu:0", ["precision fp16", "engine static"]),
        ("auto", "int8", "gpu:0", ["precision int8", "device cpu"]),
        ("static", "int8", "cpu", ["precision int8", "engine openvino"]),
    ],
)
def test_what_an_engine_cannot_do_is_one_line(engine, precision, device, words):
    with pytest.raises(InputError) as error:
        choose_engine(engine, precision, device, deformable=False)
    assert all(word in str(error.value) for word in words)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnxruntime and paddle2onnx; pip install '.\[onnx\]'"):
        choose_engine("onnx", "fp32", "cpu", deformable=False)


def test_other_weights_are_never_served_the_network_of_the_first(capfd):
    first, second = (
        load_predictor(tiny.CONFIG, untrained=seed, overrides=tiny.OVERRIDES, engine="static") for seed in (0, 1)
    )
    picture = first.prepare(tiny.scene(0))
    batch = first.pad([picture]), [picture.size]
    ours, theirs = (predictor.engine(*batch) for predictor in (first, second))
    assert np.abs(np.asarray(ours[2]) - np.asarray(theirs[2])).max() > 0.1
    capfd.readouterr()
    again = load_predictor(tiny.CONFIG, untrained=1, overrides=tiny.OVERRIDES, engine="static")
    assert "compiling" not in capfd.readouterr().err
    assert_equal(again.engine(*batch), theirs, 0)
