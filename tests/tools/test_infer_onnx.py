"""An exported network finds the same instances on a machine without Paddle."""

from __future__ import annotations

import ast
import json
import os

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import eval as evaluation
from config.errors import InputError
from data.images import find_images, write_image
from tests.support import tiny
from tests.support.exports import (
    BOXES,
    OVERRIDES,
    PREDICTION,
    config_of,
    exported,
    needs_onnx,
    of_kind,
    run_python_without_paddle,
)
from tests.support.programs import run_main
from tests.support.slow import slow_except_first
from tools import infer_onnx, preprocess_inputs_to_bin
from tools.deploy.exported import exported_predictor, open_exported
from tools.predict.load import load_predictor

SCENES = [tiny.scene(seed, *size) for seed, size in enumerate([(80, 120), (120, 80), (64, 64)])]


def test_the_environment_has_no_paddle(tmp_path):
    program = "import importlib.util, model; print(importlib.util.find_spec('paddle')); import paddle"
    done = run_python_without_paddle(tmp_path, "-c", program)
    assert done.stdout == "None\n" and "No module named 'paddle'" in done.stderr
    names = "paddle", "onnx", "faster_coco_eval", "shapely", "hypothesis", *PREDICTION
    done = run_python_without_paddle(
        tmp_path, "-c", f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    )
    assert set(ast.literal_eval(done.stdout)) <= set(PREDICTION)


@needs_onnx
@slow_except_first(
    ("kind", "way"),
    [
        ("solov2", ()),
        ("solov2", ("--end-to-end",)),
        ("solov2", ("--input-size=64x96",)),
        (BOXES, ("--end-to-end",)),
        (BOXES, ("--end-to-end", "--input-size=64x96")),
    ],
    fast=3,
)
def test_finds_what_the_dynamic_graph_finds(tmp_path, kind, way):
    path = of_kind(kind, *way)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, scene in enumerate(SCENES):
        write_image(pictures / f"{number}.png", scene)
    done = run_python_without_paddle(
        tmp_path, "tools/infer_onnx.py", path, pictures, "--score=0",
        "--output", tmp_path / "drawn", "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(find_images([tmp_path / "drawn"])) == len(SCENES)
    assert "3 pictures" in done.stdout and "network" in done.stdout
    rows = json.loads((tmp_path / "a.json").read_text())
    fixed = ["data.fixed_size=64,96"] if "--input-size=64x96" in way else []
    predictor = load_predictor(config_of(kind), untrained=0, overrides=fixed, engine="dynamic")
    expected = [row for number, scene in enumerate(SCENES) for row in predictor(scene).to_coco(number)]
    assert len(rows) == len(expected) > 5
    for mine, other in zip(rows, expected):
        assert (mine["image_id"], mine["category_id"]) == (other["image_id"], other["category_id"])
        assert abs(mine["score"] - other["score"]) < 1e-3
        assert abs(mine.get("box_score", 0) - other.get("box_score", 0)) < 1e-3
        assert coco_mask.iou([mine["segmentation"]], [other["segmentation"]], [0])[0, 0] > 0.99


@needs_onnx
@pytest.mark.parametrize("kind", tiny.GRID_KINDS)
def test_batches_and_every_kind_of_head(kind):
    batches = ["test_cfg.batch_size=2"]
    ours = exported_predictor(of_kind(kind), overrides=batches, score=0.0)
    theirs = load_predictor(config_of(kind), untrained=0, overrides=batches, engine="dynamic")
    for mine, other in zip(ours(SCENES), theirs(SCENES)):
        assert len(mine) == len(other) > 0
        np.testing.assert_allclose(mine.scores, other.scores, atol=1e-3)
        assert (mine.classes == other.classes).all()


@needs_onnx
def test_mistakes_are_one_line(tmp_path):
    write_image(tmp_path / "a.png", SCENES[0])
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    os.mkfifo(tmp_path / "pipe.onnx")
    for model, words in (
        (tmp_path / "none.onnx", "cannot be read (No such file or directory); python tools/export.py makes one"),
        (tmp_path / "pipe.onnx", "a pipe or a device, not a regular file"),
        (broken, "onnxruntime cannot read it"),
    ):
        status, _, err = run_main(infer_onnx.main, model, tmp_path / "a.png")
        assert status == 2 and err.count("\n") == 1
        assert str(model) in err and words in err
    model = exported("--config=20", "--untrained=0", overrides=())
    before = model.read_bytes()
    status, _, err = run_main(infer_onnx.main, model, tmp_path / "a.png", "--no-draw", "--json", model)
    assert status == 2 and "is read too" in err and model.read_bytes() == before


@needs_onnx
@slow_except_first("main", [infer_onnx.main, evaluation.main])
def test_weights_that_are_damaged_are_named(tmp_path, main):
    """ONNX files have no checksum; numbers that are not finite spoil all results."""
    content = bytearray(exported("--config=20", "--untrained=0", overrides=()).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = b"\xff" * 50
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(content)
    write_image(tmp_path / "a.png", SCENES[0])
    options = (damaged, tmp_path / "a.png", "--no-draw")
    if main is evaluation.main:
        options = "--engine=onnx", damaged, "--output", tmp_path / "out", "--images", tmp_path / "a.png"
    done = run_main(main, *options)
    assert done.returncode == 2 and "damaged.onnx: gives values that are not finite numbers" in done.stderr


@needs_onnx
@pytest.mark.parametrize(
    ("output", "damage", "says"),
    [
        (0, lambda scores: scores + 1, "gives scores from 1"),
        (0, lambda scores: scores[:, :-1], "its output scores has the shape"),
        (1, lambda kernels: np.repeat(kernels, 7, axis=0), "its output kernels has the shape 7 x"),
        (2, lambda feats: feats[..., :2, :2], "its output mask_feats has the shape"),
    ],
)
def test_outputs_that_are_not_those_of_the_network_are_named(monkeypatch, output, damage, says):
    """The sides of a graph for pictures of any size are known when it runs."""
    model = exported("--config=20", "--untrained=0", overrides=())
    exported_predictor(model)(SCENES[0])
    session = open_exported(model)

    class Damaged:
        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        def run(self, *arguments: object) -> list[np.ndarray]:
            outputs = session.run(*arguments)
            return [damage(array) if place == output else array for place, array in enumerate(outputs)]

    monkeypatch.setattr("tools.deploy.exported.open_exported", lambda path, streams: Damaged())
    with pytest.raises(InputError, match=says):
        exported_predictor(model)(SCENES[0])


@pytest.mark.parametrize("main", [infer_onnx.main, preprocess_inputs_to_bin.main])
def test_swapped_arguments_are_one_line(tmp_path, main):
    folder, picture, network = tmp_path, tmp_path / "a.PNG", tmp_path / "a.onnx"
    write_image(tmp_path / "a.png", SCENES[0])
    network.write_bytes(b"of tools/export.py")
    for arguments, says in (
        ((picture, network), f"{network}: is a network in the place of a picture"),
        ((network, picture, network), f"{network}: is a network in the place of a picture"),
        ((folder, network), f"{network}: is a network in the place of a picture"),
        ((picture, picture), f"{picture}: is a picture in the place of the network"),
        ((folder, picture), f"{folder}: is a folder in the place of the network"),
    ):
        done = run_main(main, *arguments, "--output", tmp_path / "out")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{says}; give the network first, then the pictures" in done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.pdparams", "is a checkpoint, not an exported network; {}"),
        ("a.PTH", "is named like a checkpoint of another program; convert it with a script of convert/"),
    ],
)
def test_a_checkpoint_in_the_place_of_the_network_is_named(tmp_path, name, says):
    (tmp_path / name).touch()
    done = run_main(infer_onnx.main, tmp_path / name, tmp_path)
    expected = f"{tmp_path / name}: {says.format('export it with tools/export.py')}"
    assert (done.returncode, done.stderr) == (2, f"infer_onnx.py: error: {expected}\n")
    for options in ((), ("--engine=onnx",)):
        done = run_main(evaluation.main, *options, tmp_path / name)
        expected = f"{tmp_path / name}: {says.format('give it with --weights')}"
        assert (done.returncode, done.stderr) == (2, f"eval.py: error: {expected}\n")
    done = run_main(evaluation.main, tmp_path)
    assert (done.returncode, "is a folder in the place of the network; give pictures" in done.stderr) == (2, True)


@needs_onnx
def test_a_foreign_graph_is_refused(tmp_path):
    import onnx

    model = onnx.load(exported(overrides=OVERRIDES))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    write_image(tmp_path / "a.png", SCENES[0])
    status, _, err = run_main(infer_onnx.main, tmp_path / "foreign.onnx", tmp_path / "a.png")
    assert status == 2 and "was not written by tools/export.py" in err


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "way", "change"),
    [
        ("solov2", (), "head.strides=8,8,8,8,8"),
        ("solov2", (), "data.fixed_size=64,64"),
        ("solov2", ("--end-to-end",), "nms.max_per_img=3"),
        (BOXES, ("--end-to-end",), "roi.size=10"),
    ],
)
def test_fields_fixed_by_the_export_cannot_be_changed(kind, way, change):
    with pytest.raises(ValueError, match=f"-o {change}: is decided in .*; export it again"):
        exported_predictor(of_kind(kind, *way), overrides=[change])
