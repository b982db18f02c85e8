"""INT8 networks beside checkpoints: the command, the precision int8, and the accuracy that remains."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import demo
from config.base import PROJECT
from data.class_lists import ClassList
from data.images import write_image
from data.shapes import draw_scene, write_coco
from tests.support import tiny
from tests.support.exports import BOXES, config_of
from tests.support.programs import override_options, run_main
from tools import quantize
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.engine.int8 import int8_path, write_int8
from tools.predict.load import load_predictor, untrained_network

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"
needs_nncf = pytest.mark.skipif(not quantize.is_installed(), reason="the extras [int8,openvino] are not installed")


@pytest.fixture
def weights(tmp_path):
    """Return a copy of the small model's checkpoint."""
    return shutil.copyfile(WEIGHTS, tmp_path / "shapes.pdparams")


@needs_nncf
def test_the_small_model_in_int8(tmp_path, weights):
    scenes = [draw_scene(rng=np.random.default_rng([6, i]), height=320, width=320) for i in range(8)]
    write_coco(scenes=scenes, output=tmp_path)
    pictures, annotations = tmp_path / "images", tmp_path / "annotations.json"
    images = "--weights", weights, "--images", pictures
    status, out, err = run_main(quantize.main, *images, "--annotations", annotations, "--pictures", pictures)
    assert status == 0, err
    assert f"wrote {tmp_path / 'shapes.int8'}, calibrated with 8 pictures" in out
    before, after = (list(map(float, re.findall(r"\s(\d+\.\d+)", line))) for line in out.splitlines()[-2:])
    assert before[1] > 20 and abs(after[1] - before[1]) < 2  # mask AP
    exact, ours = (load_predictor(20, weights, precision=precision) for precision in ("fp32", "int8"))
    assert ours.engine_name == "openvino"
    first, second = exact(scenes[0].image), ours(scenes[0].image)
    assert len(first) == len(second) and (first.classes == second.classes).all()
    assert 0 < np.abs(first.scores - second.scores).max() < 0.1
    drawn = "--input", pictures, "--no-draw", "--weights", weights, "--precision", "int8"
    assert run_main(demo.main, *drawn).returncode == 0
    status, out, err = run_main(quantize.main, *images, "--limit=2")  # again, over its own output
    assert status == 0 and "calibrated with 2 pictures" in out and "found of fp32's" in out, err


@needs_nncf
def test_centermask2_in_int8(tmp_path):
    config, weights = config_of(BOXES), tmp_path / "boxes.pdparams"
    arrays = {name: value.numpy() for name, value in untrained_network(config, 0).state_dict().items()}
    names = tuple(f"class {number}" for number in range(config.num_classes))
    classes = ClassList(names, tuple(range(1, config.num_classes + 1)))
    save_checkpoint(weights, Checkpoint(arrays, classes, config.name))
    write_image(tmp_path / "images" / "a.png", tiny.scene(0))
    overrides = tiny.CENTERMASK2_OVERRIDES
    options = f"--config={tiny.CENTERMASK2}", "--weights", weights, *override_options(*overrides)
    status, out, err = run_main(quantize.main, *options, "--images", tmp_path / "images")
    assert status == 0, err
    exact, ours = (
        load_predictor(tiny.CENTERMASK2, weights, overrides=overrides, precision=precision, engine="openvino")
        for precision in ("fp32", "int8")
    )
    found, expected = ours(tiny.scene(0)), exact(tiny.scene(0))
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.network_boxes.scores, expected.network_boxes.scores, atol=0.02)


@needs_nncf
@pytest.mark.parametrize("damage", ["missing", "other weights", "empty", "cut off", "flipped"])
def test_an_int8_file_that_does_not_fit_names_the_command(tmp_path, weights, damage):
    from openvino import Model, opset8

    path = int8_path(weights)
    constant = opset8.constant(np.zeros(999, np.float32))
    write_int8(path, {"trunk": Model([constant], [])}, "of other weights")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"empty": b"", "cut off": path.read_bytes()[:-300], "flipped": bytes(content)}
    if damage == "missing":
        path.unlink()
    elif damage in damaged:
        path.write_bytes(damaged[damage])
    done = run_main(demo.main, "--no-draw", "--weights", weights, "--precision", "int8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"python tools/quantize.py --config=20 --weights {weights} --images FOLDER writes it" in done.stderr


def test_random_weights_have_no_int8_network(tmp_path):
    done = run_main(demo.main, "--no-draw", "--untrained=0", "--precision", "int8", "--engine", "openvino")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "int8" in done.stderr


def test_without_nncf_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize.importlib.util, "find_spec", lambda name: None)
    done = run_main(quantize.main, "--images", tmp_path)
    assert done.returncode == 2 and "pip install '.[int8]'" in done.stderr and done.stderr.count("\n") == 1
