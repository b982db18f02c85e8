"""No command overwrites a file that our programs did not write."""

from __future__ import annotations

from functools import partial

import pytest

import demo
import eval as evaluation
from config.base import PROJECT
from config.errors import shorten
from convert.command import convert_backbone, convert_network
from data.images import find_images
from tests.support.exports import needs_onnx
from tests.support.programs import run_main
from tools import (
    benchmark,
    check_dataset,
    export,
    labelme2coco,
    postprocess_bin_outputs,
    preprocess_inputs_to_bin,
    quantize,
    voc2coco,
)

UNTRAINED = ("--config=20", "--untrained=0")
PICTURES = PROJECT / "images" / "test"
FIRST = find_images([PICTURES])[0].stem
SUBMISSION = "detections_test-dev2017_solov2_tiny_shapes_results.zip"
# Function, arguments, and the outputs. {out} is the folder of the outputs, {missing} an input that does not exist.
COMMANDS = [
    (demo.main, (*UNTRAINED, "--input", PICTURES, "--no-draw", "--json", "{out}/a.json"), ["a.json"]),
    (demo.main, (*UNTRAINED, "--input", PICTURES, "--no-draw", "--stats", "{out}/a.json"), ["a.json"]),
    (
        evaluation.main,
        (*UNTRAINED, "--output", "{out}"),
        ["index.html", "masks.json", "boxes.json", "pictures/quality.png", "pictures/worst_020_found.jpg"],
    ),
    (evaluation.main, (*UNTRAINED, "--output", "{out}", "--split=test-dev"), ["masks.json", SUBMISSION]),
    (evaluation.main, (*UNTRAINED, "--output", "{out}", "--images", PICTURES), ["results.json"]),
    (benchmark.main, (*UNTRAINED, "--images", PICTURES, "--json", "{out}/a.json"), ["a.json"]),
    (
        export.main,
        (*UNTRAINED, "--format=paddle", "--output", "{out}/a"),
        ["a.json", "a.pdmodel", "a.pdiparams", "a_metadata.json"],
    ),
    (
        preprocess_inputs_to_bin.main,
        ("{missing}", PICTURES, "--output", "{out}"),
        ["index.json", "inputs.txt", f"000000_{FIRST}.bin"],
    ),
    (postprocess_bin_outputs.main, ("{missing}", "{missing}", "--json", "{out}/a.json"), ["a.json"]),
    (quantize.main, ("--onnx", "{missing}", "--images", PICTURES, "--output", "{out}/a.onnx"), ["a.onnx"]),
    (labelme2coco.main, ("{missing}", "--output", "{out}/a.json"), ["a.json"]),
    (labelme2coco.main, ("{missing}", "--output", "{out}/a.json", "--val-fraction=0.5"), ["a_val.json"]),
    (voc2coco.main, ("{missing}", "--output", "{out}/a.json"), ["a.json"]),
    (check_dataset.main, ("--config=20", "--output", "{out}"), ["classes_val.png", "scales_train_352.png"]),
    (partial(convert_network, "", script="convert/solo2paddle.py"), ("{missing}", "--output={out}/a"), ["a"]),
    (partial(convert_backbone, "", script="convert/torchvision2paddle.py"), ("{missing}", "--output={out}/a"), ["a"]),
]
CASES = [(main, arguments, name) for main, arguments, names in COMMANDS for name in names]
CASES.append(pytest.param(export.main, (*UNTRAINED, "--output", "{out}/a.onnx"), "a.onnx", marks=needs_onnx))


@pytest.mark.parametrize(("main", "arguments", "name"), CASES)
def test_a_foreign_file_is_refused_before_any_work(tmp_path, main, arguments, name):
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("a file of the user")
    places = {"out": tmp_path / "out", "missing": tmp_path / "missing"}
    done = run_main(lambda: main(), *(str(argument).format(**places) for argument in arguments))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{shorten(str(foreign))}: not written by this project" in done.stderr
    assert foreign.read_text() == "a file of the user"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [foreign]
