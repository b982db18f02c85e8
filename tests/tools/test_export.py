"""Exported networks give what the dynamic graph and its decoding give, and use standard operators only."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest

from config import load_config
from config.base import PROJECT, Config
from config.errors import InputError
from data.class_lists import read_class_list
from model.decode.decoded import Decoded
from tests.support import tiny
from tests.support.exports import BOXES, OVERRIDES, SIZE, config_of, exported, needs_onnx, of_kind
from tests.support.programs import override_options, python_command, run_main
from tests.support.slow import slow_except_first
from tools import export
from tools.common.kinds import RawPredictions, kind_of
from tools.deploy.exported import METADATA, exported_predictor, metadata_of
from tools.engine.dynamic import DynamicEngine
from tools.engine.static_graph import load_static_graph
from tools.predict.load import untrained_network
from tools.predict.mask_windows import Size, masks_in_boxes

WHOLE = ("--end-to-end",)
WAYS = ((), WHOLE)
GRAPHS = [(kind, way) for kind in tiny.GRID_KINDS for way in WAYS] + [(BOXES, WHOLE)]
FIXED = f"--input-size={SIZE[0]}x{SIZE[1]}"
SIZES = ((64, 96), (96, 64), (128, 160))


@needs_onnx
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"streams": 0}, "streams=0: expected an integer above 0"),
        ({"section": "foo"}, "section='foo': expected 'test_cfg' or 'eval_cfg'"),
        ({"overrides": "nms.max_per_img=5"}, "expected a list"),
        ({"overrides": [" head.reach=3"]}, "is decided in"),
        ({"overrides": ["classes_path=a"]}, "is decided in"),
        ({"overrides": ["data.short_side=48"]}, "is decided in"),
        ({"overrides": ["eval_cfg.batch_size=4"]}, "takes one picture at a time"),
    ],
    ids=str,
)
def test_arguments_without_an_effect_are_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        exported_predictor(of_kind("solo", FIXED), **arguments)


@pytest.mark.parametrize("path", ["", None])
def test_a_network_without_a_path_is_refused(path):
    with pytest.raises(InputError, match="expected the path of a file"):
        exported_predictor(path)


@needs_onnx
def test_the_fixed_size_of_the_config_is_the_default():
    """--input-size takes its place."""
    own = exported(f"--config={tiny.CONFIG}", "--untrained=0", overrides=(*tiny.OVERRIDES, f"data.fixed_size={SIZE}"))
    assert exported_predictor(own).config.data.fixed_size == SIZE


def noise(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)


def dynamic_predictions(kind: str, images: np.ndarray) -> RawPredictions:
    with paddle.no_grad():
        return [array.numpy() for array in untrained_network(config_of(kind), 0)(paddle.to_tensor(images))]


def detect_in_picture(images: np.ndarray, picture: Size, *overrides: str) -> Decoded:
    """Return what the dynamic graph of CenterMask2 finds in a picture of this size within the padded input."""
    config = config_of(BOXES, *overrides)
    (found,) = DynamicEngine(untrained_network(config, 0), config)(images, [picture])
    return found


def assert_same_boxes(given: RawPredictions, found: Decoded, picture: Size, most: int = 8) -> None:
    """Compare the outputs `given` of the end-to-end graph of CenterMask2 with the decoded dynamic graph."""
    masks, scores, classes, (count,), boxes, soft_masks, box_scores = given
    assert count == len(found.scores) and [len(part) for part in given] == [most, most, most, 1, most, most, most]
    assert (masks.dtype, classes.dtype) == (np.uint8, np.int64)
    assert not any(part[count:].any() for part in (masks, scores, classes, boxes, soft_masks, box_scores))
    np.testing.assert_array_equal(classes[:count], found.classes)
    np.testing.assert_allclose(box_scores[:count], found.box_scores, atol=1e-5)
    np.testing.assert_allclose(scores[:count], found.scores, atol=1e-4)
    inside = found.boxes.clip(0, [*picture[::-1], *picture[::-1]])
    np.testing.assert_allclose(boxes[:count], inside, atol=1e-3)
    np.testing.assert_allclose(soft_masks[:count], found.masks, atol=1e-4)
    windows = masks_in_boxes(soft_masks[:count], boxes[:count], original=masks.shape[1:], threshold=0.5)
    for mask, (top, left, pixels) in zip(masks, windows):
        own = mask[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        assert mask.sum() == own.sum() and (own != pixels).mean() < 0.01  # rounding at a probability of 0.5


def assert_same(given: RawPredictions, raw: RawPredictions, config: Config) -> None:
    """Compare the outputs `given` of an end-to-end grid network with raw predictions of the dynamic graph."""
    assert (raw[0] > config.nms.score_thr).sum() <= config.nms.nms_pre
    masks, scores, classes, (count,) = given
    assert len(masks) == len(scores) == len(classes) == config.nms.max_per_img
    expected = kind_of(config).decode(raw, 0, config)
    assert 2 <= count == len(expected.scores) and not scores[count:].any()
    np.testing.assert_array_equal(classes[:count], expected.classes)
    np.testing.assert_allclose(scores[:count], expected.scores, atol=1e-5)
    np.testing.assert_allclose(masks[:count], expected.masks, atol=1e-4)


def assert_fits(given: RawPredictions, kind: str, images: np.ndarray, way: tuple[str, ...]) -> None:
    """Compare the outputs `given` of any exported graph, for a picture without padding, with the dynamic graph."""
    if kind == BOXES:
        picture = images.shape[2:]
        assert_same_boxes(given, detect_in_picture(images, picture), picture)
    elif way:
        assert_same(given, dynamic_predictions(kind, images), config_of(kind))
    else:
        assert_close(given, dynamic_predictions(kind, images))


def assert_close(given: RawPredictions, raw: RawPredictions) -> None:
    """Compare raw predictions, except for equally probable neighbours: rounding decides which one is suppressed."""
    assert len(given) == len(raw)
    suppressed_in_one = (given[0] == 0) != (raw[0] == 0)
    assert suppressed_in_one.mean() <= 1e-3
    raw = [np.where(suppressed_in_one, given[0], raw[0]), *raw[1:]]
    for mine, other in zip(given, raw):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, atol=1e-4 * np.abs(other).max())


@needs_onnx
@slow_except_first("kind", tiny.GRID_KINDS)
def test_raw_predictions_are_those_of_the_dynamic_graph(kind):
    engine = exported_predictor(of_kind(kind)).engine
    for size in SIZES:
        images = noise(*size, count=2)
        assert_close(engine(images, []), dynamic_predictions(kind, images))


@needs_onnx
@slow_except_first("kind", tiny.GRID_KINDS)
def test_end_to_end_graph_equals_decoding(kind):
    engine = exported_predictor(of_kind(kind, *WHOLE)).engine
    for size in SIZES:
        images = noise(*size)
        assert_same(engine(images, []), dynamic_predictions(kind, images), config_of(kind))


@needs_onnx
@slow_except_first("way", [(), (FIXED,)])
def test_end_to_end_graph_of_centermask2_equals_decoding(way):
    engine = exported_predictor(of_kind(BOXES, *WHOLE, *way)).engine
    for height, width in (SIZE,) if way else SIZES:
        for picture in ((height, width), (height - 31, width - 20)):
            images = np.zeros((1, 3, height, width), np.float32)
            images[:, :, : picture[0], : picture[1]] = noise(*picture)
            given = engine(images, [])
            assert_same_boxes(given, detect_in_picture(images, picture), picture)
            assert given[3] == len(given[0])  # all rows are used


@needs_onnx
@slow_except_first(("threshold", "most"), [(0.9, 8), (0.0165, 30)])
def test_fewer_instances_than_rows(threshold, most):
    overrides = f"nms.score_thr={threshold}", f"nms.max_per_img={most}"
    given = exported_predictor(of_kind(BOXES, *WHOLE, *override_options(*overrides))).engine(noise(*SIZE), [SIZE])
    assert_same_boxes(given, detect_in_picture(noise(*SIZE), SIZE, *overrides), SIZE, most)
    assert given[3] < most and (given[3] > 0) == (threshold < 0.5)


@needs_onnx
@slow_except_first(("kind", "way"), [("solov2", ()), ("solov2", WHOLE), (BOXES, WHOLE)])
def test_a_graph_of_one_size_has_fixed_shapes(kind, way):
    path = of_kind(kind, FIXED, *way)
    predictor = exported_predictor(path)
    assert predictor.config.data.fixed_size == SIZE
    given = predictor.engine(noise(*SIZE), [SIZE])
    assert_fits(given, kind, noise(*SIZE), way)
    stated = metadata_of(properties(path)[METADATA], path).outputs
    assert [(output.dtype, output.shape) for output in stated] == [(str(a.dtype), a.shape) for a in given]


@needs_onnx
@slow_except_first("version", [1, 2])
def test_deformable_convolutions_become_the_standard_operator(version):
    import onnx

    changes = f"head.deform_version={version}", f"mask_feat_head.deform_version={version}"
    model = onnx.load(exported(FIXED, overrides=(*OVERRIDES, *changes)))
    assert sum(node.op_type == "DeformConv" for node in model.graph.node) > 5
    assert_standard(model)


@needs_onnx
@slow_except_first(("kind", "way"), GRAPHS, fast=2)
def test_operators_and_names(kind, way):
    import onnx

    model = onnx.load(of_kind(kind, *way))
    assert_standard(model)
    assert [value.name for value in model.graph.input] == ["images"]
    levels = range(5)
    names = {
        "solov2": ["scores", "kernels", "mask_feats"],
        "solo": ["scores", "kernels", *(f"mask_feats_{level}" for level in levels)],
        "decoupled_solo": ["scores", *(f"mask_logits_{level}" for level in levels)],
    }.get(kind)
    instances = ["masks", "scores", "classes", "count"]
    if kind == BOXES:
        instances += ["boxes", "box_masks", "box_scores"]
    assert [value.name for value in model.graph.output] == (instances if way else names)


def assert_standard(model) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    ((domain, version),) = [(opset.domain, opset.version) for opset in model.opset_import]
    assert domain == "" and version >= 16


def properties(path) -> dict[str, str]:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@needs_onnx
def test_metadata_in_the_file():
    path = of_kind("solo", FIXED)
    text = properties(path)[METADATA]
    stated = json.loads(text)
    classes = read_class_list(config_of("solo").classes_file)
    assert (stated["config"], stated["number"]) == ("solov2_light_448_r18_fpn_8gpu_3x", tiny.CONFIG)
    assert stated["class_names"] == list(classes.names) and stated["category_ids"] == list(classes.ids)
    assert stated["mean"] == [123.675, 116.28, 103.53] and stated["fixed_size"] == list(SIZE)
    config = load_config(config_of("solo"), [f"data.fixed_size={SIZE}"]).replace(num_classes=80)
    found = metadata_of(text, path).config
    assert (found.head, found.nms, found.data, found.num_classes) == (config.head, config.nms, config.data, 80)


@slow_except_first(("kind", "way"), GRAPHS)
def test_a_model_for_paddles_inference_library(kind, way):
    path = of_kind(kind, *way, format="paddle")
    metadata = metadata_of(path.with_name("network_metadata.json").read_text(), path)
    assert metadata.end_to_end == bool(way) and metadata.config.head == config_of(kind).head
    graph = load_static_graph(path, "fp32")
    for size in SIZES[1:]:
        assert_fits(graph([noise(*size)]), kind, noise(*size), way)


def test_files_of_one_export_are_replaced_together(tmp_path, monkeypatch):
    arguments = (f"--config={tiny.CONFIG}", *override_options(*tiny.OVERRIDES), "--format=paddle")
    write = export.main, *arguments, "--output", tmp_path / "a"
    assert run_main(*write, "--untrained=0").returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("a*")}
    copied = []

    def fail_at_the_second(source: Path, target: Path) -> None:
        copied.append(target)
        if len(copied) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", fail_at_the_second)
    done = run_main(*write, "--untrained=1")
    assert done.returncode == 2 and "No space left on device" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.glob("a*")} == before and len(
        before
    ) >= 3  # more with Paddle 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--input-size=100x96", "--output=a", "--format=paddle"], ["data.fixed_size", "data.size_divisor=32"]),
        (["--input-size=96", "--output=a", "--format=paddle"], ["--input-size", "480x640"]),
        (["--output=a.pb"], ["--output a.pb", ".onnx"]),
        (["--output=a.onnx", "--format=paddle"], ["--output a.onnx", "--format"]),
        (["--output=a.json", "--format=paddle"], ["--output a.json", "give a"]),
        (["--output=a", "--format=paddle", "--weights=none.pdparams"], ["none.pdparams", "cannot be read"]),
        (["--output=a", "--format=paddle", "--config=31"], ["--config 31", "two parts", "add --end-to-end"]),
    ],
)
def test_a_mistake_is_one_line(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_main(export.main, *options)
    assert status == 2 and err.count("\n") == 1
    assert all(word in err for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room on a disk")
@pytest.mark.parametrize(
    "options", [pytest.param(["--output=a.onnx"], marks=needs_onnx), ["--output=a", "--format=paddle"]]
)
def test_a_full_temporary_folder_is_named(options, tmp_path):
    """A limit on the size of files acts like a full disk; Paddle would write incomplete files and say nothing."""
    (tmp_path / "temporary").mkdir()
    program = python_command(PROJECT / "tools" / "export.py", "--untrained=0", *options)
    limited = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", *program]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(limited, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert line.startswith(f"export.py: error: {tmp_path / 'temporary'}: temporary files cannot be written there")
    assert "TMPDIR" in line
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    status, _, err = run_main(export.main, f"--output={tmp_path / 'a.onnx'}")
    assert status == 2 and "needs onnx and onnxslim and paddle2onnx; pip install '.[export]'" in err


def test_candidates_are_the_pairs_of_the_highest_scores_where_there_are_too_many():
    """The result equals that of decoding with a threshold that only these pairs pass."""
    config = load_config(config_of("solov2"), ["nms.score_thr=0.001", "nms.nms_pre=20", "nms.update_thr=0"])
    network = untrained_network(config, 0)
    graph = kind_of(config).with_decoding(network, config)
    images = paddle.to_tensor(noise(*SIZE))
    with paddle.no_grad():
        raw = [array.numpy() for array in network(images)]
        given = [array.numpy() for array in graph(images)]
    lowest = np.sort(raw[0], axis=None)[-20]
    assert (raw[0] > config.nms.score_thr).sum() > 20
    assert_same(given, [np.where(raw[0] >= lowest, raw[0], 0), *raw[1:]], config)
