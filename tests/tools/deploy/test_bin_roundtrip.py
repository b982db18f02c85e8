"""From pictures to AP by files of bare numbers, with ONNX Runtime in the place of a board."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eval as evaluation
from config.base import PROJECT
from config.solov2_tiny_shapes import SOLOv2TinyShapes
from data.coco import read_complete
from data.images import write_image
from data.shapes import draw_scene, write_coco
from tests.support import tiny
from tests.support.exports import (
    BOXES,
    RAW_FILES,
    SIZE,
    average_precisions,
    by_files,
    config_of,
    exported,
    needs_onnx,
    of_kind,
    on_board,
    run_python_without_paddle,
)
from tests.support.programs import override_options, run_main
from tests.support.slow import slow_except_first
from tools import postprocess_bin_outputs, preprocess_inputs_to_bin
from tools.deploy.binary_files import read_index
from tools.evaluate.coco_metrics import evaluate_coco, ground_truth, summary_table
from tools.predict.load import load_predictor

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"
FIXED = "--input-size=352x352"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Some pictures of the kind that the small model knows."""
    folder = tmp_path_factory.mktemp("shapes")
    scenes = [draw_scene(rng=np.random.default_rng([5, i]), height=240 + 40 * (i % 3), width=320) for i in range(6)]
    write_coco(scenes=scenes, output=folder)
    return folder


@needs_onnx
@slow_except_first("way", [(), ("--end-to-end",)])
def test_ap_is_that_of_eval(tmp_path, shapes, way):
    model = exported("--config=20", f"--weights={WEIGHTS}", FIXED, *way, overrides=())
    out = by_files(model, shapes, tmp_path)
    paths = f"val_path={shapes / 'annotations.json'}", f"val_pre_path={shapes / 'images'}"
    rest = *override_options(*paths), "--output", tmp_path / "eval"
    for options in (
        ("--engine=onnx", model),
        ("--engine=dynamic", f"--weights={WEIGHTS}", "-o", "data.fixed_size=352,352"),
    ):
        status, expected, err = run_main(evaluation.main, *options, *rest)
        assert status == 0, err
        numbers = [average_precisions(text) for text in (out, expected)]
        assert len(numbers[0]) == len(numbers[1]) >= 12 and numbers[0][0] > 20
        np.testing.assert_allclose(*numbers, atol=0.1)  # percent
    assert len(json.loads((tmp_path / "results.json").read_text())) > 6


@needs_onnx
@slow_except_first(("kind", "way"), [("solo", ()), ("decoupled_solo", ()), (BOXES, ("--end-to-end",))])
def test_a_network_for_any_size_and_other_names(tmp_path, kind, way):
    """The first output of a picture is called 1 and so on, as some boards' programs do; the reader has few packages."""
    model = of_kind(kind, *way)
    write_image(tmp_path / "a.png", tiny.scene(0))
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    size = f"--input-size={SIZE[0]}x{SIZE[1]}"
    rest = model, tmp_path / "a.png", size, "--output", inputs
    assert run_python_without_paddle(tmp_path, "tools/preprocess_inputs_to_bin.py", *rest).returncode == 0
    (entry,) = json.loads((inputs / "index.json").read_text())["pictures"]
    assert entry["original_size"] == [80, 120] and entry["resized"] == [64, 96] and entry["scale"] == 0.8
    names = "{picture}_{number}.bin"
    on_board(model, inputs, outputs, names, first_number=1)
    results = tmp_path / "results.json"
    rest = "--json", results, "--names", names, "--first-number=1", "--score=0"
    done = run_python_without_paddle(
        tmp_path, "tools/postprocess_bin_outputs.py", inputs, outputs, *rest, packages=RAW_FILES
    )
    assert done.returncode == 0, done.stderr
    expected = load_predictor(config_of(kind, "data.fixed_size=64,96"), untrained=0, engine="dynamic")(tiny.scene(0))
    rows = json.loads(results.read_text())
    assert len(rows) == len(expected) > 0
    np.testing.assert_allclose([row["score"] for row in rows], expected.scores, atol=1e-4)


@needs_onnx
def test_pictures_that_cannot_be_read_are_named_and_skipped(tmp_path):
    model, bad = of_kind("solov2", f"--input-size={SIZE[0]}x{SIZE[1]}"), tmp_path / "bad.png"
    bad.write_text("no picture")
    rest = "--output", tmp_path / "inputs"
    status, _, err = run_main(preprocess_inputs_to_bin.main, model, bad, *rest)
    assert status == 2 and "error: none of 1 pictures could be read" in err
    write_image(tmp_path / "good.png", tiny.scene(0))
    status, out, err = run_main(preprocess_inputs_to_bin.main, model, tmp_path, *rest)
    assert (status, err.count("\n")) == (0, 1) and err.startswith(f"skipped {bad}: not a picture")
    assert out.startswith("1 pictures were skipped, see above\nwrote 1 pictures")
    (entry,) = json.loads((tmp_path / "inputs" / "index.json").read_text())["pictures"]
    assert entry["image_id"] == 2  # as of demo.py, for the second picture of the folder


@needs_onnx
def test_pictures_without_outputs_are_listed_and_left_out(tmp_path, shapes, monkeypatch):
    """AP is that of the other pictures, and counts as many instances as the config says."""
    monkeypatch.setattr(SOLOv2TinyShapes, "eval_cfg", replace(SOLOv2TinyShapes.eval_cfg, max_dets=11))
    model = exported("--config=20", f"--weights={WEIGHTS}", FIXED, overrides=())
    inputs, outputs, rest = tmp_path / "inputs", tmp_path / "outputs", ("--json", tmp_path / "found.json")
    assert run_main(preprocess_inputs_to_bin.main, model, shapes / "images", "--output", inputs)[0] == 0
    on_board(model, inputs, outputs, postprocess_bin_outputs.NAMES)
    names = [row["name"] for row in json.loads((inputs / "index.json").read_text())["pictures"]]
    for name in names[1:3]:
        (outputs / f"{name}_kernels.bin").unlink()
    content = json.loads((shapes / "annotations.json").read_text())
    content["annotations"].append({"id": 999, "image_id": content["images"][0]["id"], "category_id": 1})
    annotations = "--annotations", tmp_path / "annotations.json", "--pictures", shapes / "images"
    annotations[1].write_text(json.dumps(content))
    status, out, err = run_main(postprocess_bin_outputs.main, inputs, outputs, *rest, *annotations)
    assert status == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("1 annotation without a segmentation, left out: ")]
    assert line.endswith("999")
    assert [f"skipped {outputs / name}_kernels.bin: " in err for name in names] == [0 < n < 3 for n in range(6)]
    assert "4 pictures" in out and "2 pictures without outputs were skipped, see above" in out
    found = {row["file_name"] for row in json.loads(rest[1].read_text())}
    assert len(found) == 4
    truth = ground_truth(read_complete(annotations[1], annotations[3], read_index(inputs)[0].classes, inputs))
    rows = json.loads(rest[1].read_text())
    kept = [number for name, number in zip(names, truth.image_ids) if name not in names[1:3]]
    evaluation = evaluate_coco(truth, rows, kept, 11)
    assert summary_table(evaluation.mask, evaluation.box) in out


@needs_onnx
def test_the_list_of_inputs_names_file_width_and_height(tmp_path):
    """A space in a name would separate two items of a line; a name need not be UTF-8."""
    pictures = [tmp_path / name for name in ("a.png", "b c\td.png", os.fsdecode(b"\xff.png"))]
    for number, path in enumerate(pictures):
        write_image(path, tiny.scene(number))
    model, inputs = of_kind("solov2", f"--input-size={SIZE[0]}x{SIZE[1]}"), tmp_path / "inputs"
    assert run_main(preprocess_inputs_to_bin.main, model, *pictures, "--output", inputs)[0] == 0
    lines = [line.split() for line in os.fsdecode((inputs / "inputs.txt").read_bytes()).splitlines()]
    files = [inputs / name for name in ("000000_a.bin", "000001_b_c_d.bin", os.fsdecode(b"000002_\xff.bin"))]
    assert lines == [[str(number), str(file), "96", "64"] for number, file in enumerate(files)]
    assert all(file.stat().st_size == 4 * 3 * 64 * 96 for file in files)


@needs_onnx
def test_mistakes_are_one_line(tmp_path, shapes):
    fixed, free = of_kind("solov2", f"--input-size={SIZE[0]}x{SIZE[1]}"), of_kind("solov2")
    pictures, inputs = shapes / "images", tmp_path / "inputs"

    def mistake(main, *arguments: object) -> str:
        status, _, err = run_main(main, *arguments)
        assert status == 2 and err.count("\n") == 1, err
        return err

    write = preprocess_inputs_to_bin.main
    assert "choose one with --input-size" in mistake(write, free, pictures, "--output", inputs)
    other = mistake(write, fixed, pictures, "--output", inputs, "--input-size=96x96")
    assert "takes 64x96" in other
    assert not list(inputs.glob("*.bin"))
    assert run_main(write, fixed, pictures, "--output", inputs)[0] == 0
    read, rest = postprocess_bin_outputs.main, ("--json", tmp_path / "found.json")
    assert "is read too" in mistake(read, inputs, tmp_path, "--json", inputs / "index.json")
    assert "index.json: cannot be read" in mistake(read, tmp_path, tmp_path, *rest)
    same = mistake(read, inputs, tmp_path, *rest, "--names={output}.bin")
    assert "--names {output}.bin: two outputs have one name" in same
    for pattern in ("{other}.bin", "{picture:>999999999}.bin", "{picture.__class__}", "{number!r}", "{"):
        assert "{output}" in mistake(read, inputs, tmp_path, *rest, f"--names={pattern}")
    numbers = "--names={picture}_{number:03d}.bin", "--first-number=7"
    assert "_007.bin" in mistake(read, inputs, tmp_path, *rest, *numbers)
    assert "--first-number: add --names with {number}" in mistake(read, inputs, tmp_path, *rest, numbers[1])
    assert "no picture has all of its outputs" in (missing := mistake(read, inputs, tmp_path, *rest))
    assert f"{tmp_path / 'gone'}: no such folder" in mistake(read, inputs, tmp_path / "gone", *rest)
    assert "000000_" in missing and "see --names and --first-number" in missing
    on_board(fixed, inputs, tmp_path / "outputs", postprocess_bin_outputs.NAMES)
    first = next((tmp_path / "outputs").glob("000000_*_scores.bin"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-4] + np.float32("nan").tobytes())
    assert f"{first}: has values that are not finite" in mistake(read, inputs, tmp_path / "outputs", *rest)
    first.write_bytes(whole[:-4] + np.float32(7).tobytes())
    assert f"{first}: has scores from " in mistake(read, inputs, tmp_path / "outputs", *rest)
    first.write_bytes(whole[:-4])
    assert "numbers of float32" in mistake(read, inputs, tmp_path / "outputs", *rest)
    first.unlink()
    os.mkfifo(first)
    assert f"{first}: cannot be read (a pipe or a device" in mistake(read, inputs, tmp_path / "outputs", *rest)
    index = json.loads((inputs / "index.json").read_text())
    (inputs / "index.json").write_text(json.dumps({**index, "pictures": []}))
    assert "for example none is listed" in mistake(read, inputs, tmp_path / "outputs", *rest)
    assert "give both or none" in mistake(read, inputs, tmp_path / "outputs", *rest, "--annotations=a.json")
    unknown = mistake(read, inputs, tmp_path / "outputs", *rest, "--annotations=a.json", "--pictures=a")
    assert "give a COCO annotation file with --annotations" in unknown and "--data-root" not in unknown
    (inputs / "index.json").write_text(json.dumps({**index, "metadata": {**index["metadata"], "config": "gone"}}))
    options = "--annotations=a.json", "--pictures=a"
    _, _, err = run_main(postprocess_bin_outputs.main, inputs, tmp_path / "outputs", *rest, *options)
    assert err.startswith(f"{inputs / 'index.json'}: there is no config gone; eval_cfg and paths have their defaults\n")


@needs_onnx
def test_files_of_instances_that_cannot_be_are_named(tmp_path, shapes):
    model = exported("--config=20", f"--weights={WEIGHTS}", FIXED, "--end-to-end", overrides=())
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    assert run_main(preprocess_inputs_to_bin.main, model, shapes / "images", "--output", inputs)[0] == 0
    on_board(model, inputs, outputs, postprocess_bin_outputs.NAMES)
    (damaged,) = outputs.glob("000002_*_count.bin")
    damaged.write_bytes(np.full_like(np.fromfile(damaged, np.uint8), 127).tobytes())
    found = run_main(postprocess_bin_outputs.main, inputs, outputs, "--json", tmp_path / "found.json")
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert str(damaged) in found.stderr and "its outputs are damaged" in found.stderr
    (scaled,) = outputs.glob("000001_*_masks.bin")  # the first picture that is read is 000000
    (np.fromfile(scaled, np.float32) * 255).tofile(scaled)
    found = run_main(postprocess_bin_outputs.main, inputs, outputs, "--json", tmp_path / "found.json")
    assert found.returncode == 2 and f"{scaled}: has masks from 0 to 2" in found.stderr


@needs_onnx
def test_image_ids_are_the_numbers_in_the_names(tmp_path):
    """As those of demo.py; stale inputs of an earlier run and a space in the folder are said."""
    model, inputs, outputs = of_kind("solov2", "--input-size=64x96"), tmp_path / "my inputs", tmp_path / "outputs"
    (tmp_path / "pictures").mkdir()
    for number in (7, 139, 285):  # links, of which two lead to one file
        write_image(stored := tmp_path / "stored" / f"{number % 2}.png", tiny.scene(number))
        (tmp_path / "pictures" / f"{number:012d}.png").symlink_to(stored)
    write = preprocess_inputs_to_bin.main, model, tmp_path / "pictures"
    first = run_main(*write, "--output", inputs)
    assert first.stderr == f"{inputs}: has a space, which separates the items of a line in inputs.txt\n"
    on_board(model, inputs, outputs, postprocess_bin_outputs.NAMES)
    results = tmp_path / "found.json"
    done = run_main(postprocess_bin_outputs.main, inputs, outputs, "--json", results, "--score=0")
    assert done.returncode == 0, done.stderr
    assert {row["image_id"] for row in json.loads(results.read_text())} == {7, 139, 285}
    (tmp_path / "pictures" / "000000000285.png").unlink()
    second = run_main(*write, "--output", inputs)
    assert f"{inputs}: 000002_000000000285.bin are not of these pictures" in second.stderr
