"""Exported files in INT8: the layers that are quantized, and the accuracy that remains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from config.base import PROJECT
from data.images import write_image
from data.shapes import draw_scene, write_coco
from tests.support import tiny
from tests.support.exports import BOXES, exported, needs_onnx, of_kind
from tests.support.programs import run_main
from tests.support.slow import slow_except_first
from tools import quantize
from tools.deploy.comparison import spread
from tools.deploy.exported import exported_predictor
from tools.deploy.onnx_quantization import last_convolutions

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"


@needs_onnx
@slow_except_first("options", [(), ("--all",)])
def test_the_small_model_in_int8(tmp_path, options):
    import onnx

    model = exported("--config=20", f"--weights={WEIGHTS}", overrides=())
    scenes = [draw_scene(rng=np.random.default_rng([6, i]), height=320, width=320) for i in range(8)]
    write_coco(scenes=scenes, output=tmp_path)
    pictures, annotations = tmp_path / "images", tmp_path / "annotations.json"
    output = tmp_path / "int8.onnx"
    status, out, err = run_main(
        quantize.main, "--onnx", model, "--images", pictures, "--limit=4", "--output", output, *options,
        "--annotations", annotations, "--pictures", pictures,
    )  # fmt: skip
    assert status == 0, err
    before, after = (list(map(float, re.findall(r"\s(\d+\.\d+)", line))) for line in out.splitlines()[-2:])
    assert after[0] < 0.5 * before[0]  # megabytes
    assert before[2] > 20 and after[2] > 0.8 * before[2]  # mask AP
    graphs = [onnx.load(path).graph for path in (model, output)]
    convolutions = sum(node.op_type == "Conv" for node in graphs[0].node)
    last = 0 if options else len(last_convolutions(onnx.load(model)))
    assert f"{convolutions - last} convolutions in INT8, calibrated with 4 pictures" in out
    assert (last == 0) == bool(options)
    float_weights = {array.name for array in graphs[1].initializer if array.data_type == onnx.TensorProto.FLOAT}
    in_float = [node for node in graphs[1].node if node.op_type == "Conv" and node.input[1] in float_weights]
    assert len(in_float) == last
    first, second = exported_predictor(model), exported_predictor(output)
    assert first.classes == second.classes and second.config.name == "solov2_tiny_shapes"
    ours, theirs = (predictor(scenes[0].image) for predictor in (first, second))
    assert len(ours) > 0 and abs(len(ours) - len(theirs)) <= 2
    before = output.read_bytes()
    for target, expected in ((tmp_path / "again.onnx", "is in INT8 already"), (output, "is read too")):
        status, _, err = run_main(quantize.main, "--onnx", output, "--images", pictures, "--output", target)
        assert status == 2 and expected in err and err.count("\n") == 1
    assert output.read_bytes() == before and not (tmp_path / "again.onnx").exists()


@needs_onnx
def test_pictures_that_cannot_be_read_are_named_and_skipped(tmp_path):
    model, bad, output = of_kind("solov2"), tmp_path / "bad.png", tmp_path / "int8.onnx"
    bad.write_text("no picture")
    status, out, err = run_main(quantize.main, "--onnx", model, "--images", bad, "--output", output)
    assert status == 2 and not output.exists()
    assert err.startswith(f"skipped {bad}: not a picture") and "error: none of 1 pictures could be read" in err
    write_image(tmp_path / "good.png", tiny.scene(0))
    status, out, err = run_main(quantize.main, "--onnx", model, "--images", tmp_path, "--output", output)
    assert (status, err.count("\n")) == (0, 1) and err.startswith(f"skipped {bad}: ")
    assert out.startswith("1 pictures were skipped, see above") and "calibrated with 1 pictures" in out
    evaluation = "--annotations=none.json", "--pictures", tmp_path
    err = run_main(quantize.main, "--onnx", model, "--images", tmp_path, "--output", output, *evaluation).stderr
    assert "give a COCO annotation file with --annotations" in err and "--data-root" not in err


@needs_onnx
def test_last_convolutions_have_none_after_them():
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"], name="left"),
        helper.make_node("Conv", ["b", "w"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["e"]),
    ]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwce"}
    graph = helper.make_graph(nodes, "g", [values["x"], values["w"]], [values["c"], values["e"]])
    assert sorted(last_convolutions(helper.make_model(graph))) == ["Conv_3", "left"]


@needs_onnx
def test_centermask2_predicts_boxes_in_float(tmp_path):
    """Three convolutions on each of five levels predict boxes; one more is the last one for the scores."""
    import onnx

    model = of_kind(BOXES, "--end-to-end")
    assert len(last_convolutions(onnx.load(model))) == 3 * 5 + 1
    write_image(tmp_path / "a.png", tiny.scene(0))
    output = tmp_path / "int8.onnx"
    status, _, err = run_main(quantize.main, "--onnx", model, "--images", tmp_path / "a.png", "--output", output)
    assert status == 0, err
    ours, theirs = (exported_predictor(path, score=0.0)(tiny.scene(0)) for path in (model, output))
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(*(instances.network_boxes.scores for instances in (ours, theirs)), atol=0.02)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--onnx=a.onnx"], "--onnx: add --output FILE"),
        (["--onnx=a.onnx", "--output=b.onnx", "--config=1"], "--config: is for checkpoints; leave it out with --onnx"),
        (["--onnx=a.onnx", "--output=b.onnx", "-o", "nms.nms_pre=9"], "-o: is for checkpoints"),
        (["--onnx=a.onnx", "--output=b.onnx", "--max-drop=1"], "--max-drop: is for checkpoints"),
        (["--onnx=a.onnx", "--output=b.onnx", "--weights=c"], "--weights: is for checkpoints"),
        (["--output=b.onnx"], "--output and --all: are for --onnx"),
        (["--all"], "--output and --all: are for --onnx"),
    ],
)
def test_options_of_the_other_form_are_refused(options, says):
    done = run_main(quantize.main, "--images=a.png", *options)
    assert done.returncode == 2 and says in done.stderr


def test_pictures_are_spread_evenly():
    assert spread(9, 3) == [0, 4, 8]
    assert spread(3, 9) == [0, 1, 2]


@needs_onnx
@pytest.mark.slow
def test_the_example_of_the_docs_runs_in_a_fresh_clone(tmp_path):
    """It draws its own pictures."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
    (example,) = (
        block for block in re.findall(r"```bash\n(.*?)```", (clone / "docs/deployment.md").read_text(), re.S)
        if "quantize.py --onnx" in block
    )  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", example], cwd=clone, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, after = (line.split() for line in done.stdout.splitlines()[-2:])
    assert (before[0], after[0]) == ("fp32", "int8")
    assert 0.97 * float(before[3]) < float(after[3]) and float(before[3]) > 70  # mask AP
