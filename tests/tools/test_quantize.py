"""INT8 networks beside checkpoints: the command, the precision int8, and the accuracy that remains."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest

import demo
from config import load_config
from config.base import PROJECT
from config.errors import InputError
from data.images import write_image
from data.shapes import draw_scene, write_coco
from tests.support import tiny
from tests.support.programs import override_options, run_main
from tests.support.random_weights import write_random_checkpoint
from tools import quantize
from tools.deploy import quantization
from tools.deploy.quantization import check_agreement, last_layers
from tools.engine.int8 import Int8Graph, int8_path, write_int8
from tools.engine.openvino_graph import load_int8_graph
from tools.engine.select import unusable_reason
from tools.predict.load import load_predictor

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"
needs_nncf = pytest.mark.skipif(not quantize.is_installed(), reason="the extra [int8] is not installed")


@pytest.fixture
def weights(tmp_path):
    """Return a copy of the small model's checkpoint."""
    return shutil.copyfile(WEIGHTS, tmp_path / "shapes.pdparams")


def quantize_random_weights(folder, number, overrides):
    """Quantize a network with one picture; return what it finds in the picture in INT8 and in float32."""
    weights = folder / "random.pdparams"
    write_random_checkpoint(weights, load_config(number, overrides))
    write_image(folder / "images" / "a.png", tiny.scene(0))
    options = f"--config={number}", "--weights", weights, *override_options(*overrides)
    status, out, err = run_main(quantize.main, *options, "--images", folder / "images")
    assert status == 0, err
    assert f"wrote {int8_path(weights)}, calibrated with 1 pictures" in out and "found of fp32's" in out
    for precision in ("int8", "fp32"):
        predictor = load_predictor(number, weights, overrides=overrides, precision=precision, engine="openvino")
        yield predictor(tiny.scene(0))


@pytest.mark.slow
@needs_nncf
def test_centermask2_in_int8(tmp_path):
    found, expected = quantize_random_weights(tmp_path, tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.network_boxes.scores, expected.network_boxes.scores, atol=0.02)


@pytest.mark.slow
@needs_nncf
def test_deformable_convolutions_in_the_mask_branch_leave_the_head_its_features(tmp_path):
    """OpenVINO gave the head features of zeros, and all scores were those of its bias."""
    deformable = "head.deform_version=2", "mask_feat_head.deform_version=2"
    found, expected = quantize_random_weights(tmp_path, tiny.CONFIG, [*tiny.OVERRIDES, *deformable])
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0.2)
    assert len(np.unique(found.scores)) == len(found)


needs_openvino = pytest.mark.skipif(bool(unusable_reason("openvino")), reason="OpenVINO is not installed")


@needs_openvino
@pytest.mark.parametrize(
    "damage", ["missing", "other weights", "empty", "cut off", "flipped", "bomb", "no graph", "no weights", "more"]
)
def test_an_int8_file_that_does_not_fit_names_the_command(weights, damage):
    from openvino import Model, opset8

    path = int8_path(weights)
    constant = opset8.constant(np.zeros(999, np.float32))
    write_int8(path, {"trunk": Model([constant], [])}, "of other weights")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"empty": b"", "cut off": path.read_bytes()[:-300], "flipped": bytes(content)}
    entries = {"fingerprint": b"f", "trunk.xml": b"<net/>", "trunk.bin": bytes(1 << 20)}
    others = {"no graph": ("trunk.xml", "trunk.bin"), "no weights": ("trunk.bin",), "bomb": (), "more": ()}
    if damage == "missing":
        path.unlink()
    elif damage in damaged:
        path.write_bytes(damaged[damage])
    elif damage in others:
        compression = zipfile.ZIP_DEFLATED if damage == "bomb" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, value in {**entries, **({"x.txt": b""} if damage == "more" else {})}.items():
                if name not in others[damage]:
                    archive.writestr(name, value)
    done = run_main(demo.main, "--no-draw", "--weights", weights, "--precision", "int8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"python tools/quantize.py --config=20 --weights {weights} --images FOLDER writes it" in done.stderr
    assert ("remove it, and" in done.stderr) == (damage != "missing")


@needs_openvino
@pytest.mark.parametrize("description", [b"garbage", b"<net/>"])
def test_a_graph_that_openvino_cannot_load_is_one_line(tmp_path, description):
    graph = Int8Graph(tmp_path / "x.int8", description, b"", "remove it")
    with pytest.raises(InputError, match=r"x\.int8: OpenVINO cannot load it \(.*\); remove it") as caught:
        load_int8_graph(graph)
    assert "\n" not in str(caught.value)


@needs_openvino
def test_last_layers_feed_no_other_layer():
    from openvino import Model, opset8

    images = opset8.parameter([1, 1, 4, 4], np.float32)

    def convolution(x, name):
        weights = opset8.constant(np.ones((1, 1, 1, 1), np.float32))
        return opset8.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1], name=name)

    first = opset8.relu(convolution(images, "first"))
    ends = [opset8.sigmoid(convolution(first, name)) for name in ("left", "right")]
    assert sorted(last_layers(Model(ends, [images]))) == ["left", "right"]


@needs_openvino
def test_an_int8_graph_that_openvino_computes_wrongly_is_refused(monkeypatch):
    from openvino import Model, opset8

    images = opset8.parameter([1, 4], np.float32)
    bounds = [opset8.constant(np.float32(value)) for value in (0, 2.55, 0, 2.55)]
    graph = Model([opset8.fake_quantize(images, *bounds, 256)], [images])
    inputs = [np.ones((1, 4), np.float32)]
    check_agreement(graph, inputs)

    def wrong(model, precision, *, low_precision=True):
        return lambda inputs: [0 * array if low_precision else array for array in inputs]

    monkeypatch.setattr(quantization, "compile_model", wrong)
    with pytest.raises(InputError, match="computes the INT8 network wrongly: its output 0 differs by 100%"):
        check_agreement(graph, inputs)


@needs_openvino
def test_random_weights_have_no_int8_network():
    done = run_main(demo.main, "--no-draw", "--untrained=0", "--precision", "int8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "int8: random weights have no" in done.stderr


def test_an_onnx_file_has_its_suffix(tmp_path):
    for options in (("--output", tmp_path / "a.txt"), ()):
        done = run_main(quantize.main, "--onnx", tmp_path / "a.onnx", "--images", tmp_path, *options)
        assert done.returncode == 2 and "--onnx: add --output FILE.onnx" in done.stderr


def test_a_drop_needs_annotated_pictures(tmp_path):
    done = run_main(quantize.main, "--images", tmp_path, "--max-drop", "1")
    assert done.returncode == 2 and "--max-drop: mask AP needs annotated pictures; add --annotations" in done.stderr


@needs_nncf
@pytest.mark.parametrize("drop", ["nan", "-1", "101", "x"])
def test_a_drop_that_is_no_number_of_points_is_one_line(tmp_path, drop):
    done = run_main(quantize.main, "--images", tmp_path, "--max-drop", drop)
    assert done.returncode == 2 and "must be a number from 0 to 100" in done.stderr


@needs_nncf
def test_annotations_without_instances_are_one_line_before_the_network_is_built(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(quantize, "build_predictor", None)
    scenes = [draw_scene(rng=np.random.default_rng([6, 0]), height=320, width=320)]
    write_coco(scenes=scenes, output=tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({**content, "annotations": []}))
    pictures = tmp_path / "images"
    options = "--annotations", empty, "--pictures", pictures
    done = run_main(quantize.main, "--weights", weights, "--images", pictures, *options)
    assert done.returncode == 2 and f"{empty}: has no usable instance" in done.stderr


def test_without_nncf_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize.importlib.util, "find_spec", lambda name: None)
    done = run_main(quantize.main, "--images", tmp_path)
    assert done.returncode == 2 and "pip install '.[int8]'" in done.stderr and done.stderr.count("\n") == 1


def test_nothing_found_is_not_called_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(quantize, "network_seconds", lambda *_: (0.1, 0.2))
    (tmp_path / "file").touch()
    finds_nothing = (lambda path: [],) * 2
    networks = quantize.Quantized((tmp_path / "file",) * 2, finds_nothing, [tmp_path / "file"], None)
    table = quantize._comparison(networks)
    assert "none to find" in table and "%" not in table
