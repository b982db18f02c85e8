"""`eval.py` as a user runs it; what its numbers mean is tested in tests/tools/evaluate/test_coco_metrics.py."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

import eval as evaluation
from config.base import PROJECT
from config.errors import InputError
from data.class_lists import ClassList
from tests.support import trainings
from tests.support.coco_results import pycocotools_evaluation
from tests.support.programs import Finished, override_options, run_main
from tools.common.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tools.common.distributed import World
from tools.common.kinds import build_network

CLASSES = ClassList(names=tuple(f"class {i}" for i in range(8)), ids=tuple(range(1, 9)))
# Thresholds so low that random weights find something.
FINDS = ("nms.score_thr=0.001", "nms.update_thr=0.0005", "nms.max_per_img=5", "test_cfg.score=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a data set with the category names of CLASSES."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(trainings.data_set(), folder, dirs_exist_ok=True)
    annotations = json.loads((folder / "annotations.json").read_text())
    for category in annotations["categories"]:
        category["name"] = f"class {category['id'] - 1}"
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    import paddle

    paddle.seed(0)
    network = build_network(trainings.config())
    network.head.cate_pred.weight.set_value(network.head.cate_pred.weight * 20)
    path = tmp_path_factory.mktemp("weights") / "weights.pdparams"
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    save_checkpoint(path, Checkpoint(arrays, CLASSES, "solov2_tiny_shapes"))
    return path


def evaluate(folder: Path, data: Path, weights: Path, *more: str, overrides: tuple[str, ...] = ()) -> Finished:
    """Run eval.py on a data set. folder: where it writes."""
    finds = FINDS[:3] if "--choose-score" in more else FINDS  # without a score of the user's
    options = trainings.options(*finds, *overrides, folder=data)
    return run_main(evaluation.main, *options, "--engine=dynamic", "--weights", weights, "--output", folder, *more)


def unannotated_overrides(data: Path) -> tuple[str, str]:
    """Return overrides that use the pictures of a data set, without annotations, as test-dev."""
    content = json.loads((data / "annotations.json").read_text())
    del content["annotations"]
    (data / "info.json").write_text(json.dumps(content))
    return f"test_path={data / 'info.json'}", f"test_pre_path={data / 'images'}"


def test_the_printed_numbers_are_those_of_pycocotools(tmp_path, data, weights):
    status, out, err = evaluate(tmp_path, data, weights, "--classwise")
    assert status == 0, err
    printed = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("mask", "box"))}
    truth = COCO(str(data / "annotations.json"))
    for kind, name in (("mask", "masks.json"), ("box", "boxes.json")):
        results = truth.loadRes(str(tmp_path / name))
        stats = pycocotools_evaluation(truth, results, {"mask": "segm", "box": "bbox"}[kind]).stats
        expected = ["n/a" if value == -1 else f"{value * 100:.1f}" for value in stats]
        assert printed[kind] == expected
    assert json.loads((tmp_path / "masks.json").read_text())
    files = tmp_path / "masks.json", tmp_path / "boxes.json"
    again = run_main(evaluation.main, *trainings.options(folder=data), "--classwise", "--results", *files)
    assert again.stdout.splitlines()[:-1] == out.splitlines()[:-1]
    assert "class 7" in out
    assert f"{trainings.PICTURES} pictures" in out


def test_the_score_threshold_is_chosen_and_stored(tmp_path):
    copy = Path(shutil.copy(PROJECT / "weights" / "solov2_tiny_shapes.pdparams", tmp_path))
    paths = override_options(*trainings.data_paths())
    network = "--engine=dynamic", "--weights", copy
    chosen = run_main(
        evaluation.main, *paths, *network, "--output", tmp_path / "first", "--choose-score", "--max-dets=200"
    )
    assert chosen.returncode == 0 and "count here; COCO's own AP counts 100" in chosen.stdout
    (score,) = re.findall(r"score of (0\.\d\d) or more", chosen.stdout)
    assert f"this score is now test_cfg.score of {copy}" in chosen.stdout
    assert load_checkpoint(copy).overrides == (f"test_cfg.score={float(score):g}",)
    page = (tmp_path / "first" / "index.html").read_text()
    assert "<h2>Match score</h2>" in page and f"At score {float(score):g} and IoU 0.5" in page
    assert (tmp_path / "first" / "pictures" / "match_score.png").stat().st_size > 1000
    run = run_main(evaluation.main, *paths, *network, "--output", tmp_path, "--match-score")
    assert match_lines(run.stdout) == match_lines(chosen.stdout)
    by_match = override_options("eval_cfg.select_by=match", f"test_cfg.score={score}")
    results = run_main(evaluation.main, *paths, *by_match, "--results", tmp_path / "masks.json")
    assert match_lines(results.stdout) == match_lines(chosen.stdout)


def test_a_score_that_cannot_be_stored_is_named_before_the_evaluation(tmp_path, data, weights, monkeypatch):
    copy = Path(shutil.copy(weights, tmp_path))

    def refuse(path: Path) -> None:
        raise InputError(f"{path}: cannot be written")

    monkeypatch.setattr("tools.evaluate.eval_options.check_writable", refuse)
    monkeypatch.setattr("eval.network_source", lambda *_, **__: pytest.fail("the network was built"))
    chosen = evaluate(tmp_path / "first", data, copy, "--choose-score")
    assert chosen.returncode == 2 and chosen.stderr == f"eval.py: error: {copy}: cannot be written\n"


def test_a_network_that_finds_nothing_gets_no_score(tmp_path, data, weights):
    copy = Path(shutil.copy(weights, tmp_path))
    before = copy.read_bytes()
    nothing = "-o", "nms.score_thr=0.99"
    chosen = evaluate(tmp_path / "first", data, copy, "--choose-score", *nothing)
    assert chosen.returncode == 2 and f"{copy}: finds no object at any score" in chosen.stderr
    assert copy.read_bytes() == before


def match_lines(text: str) -> list[str]:
    lines = text.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("score of "))
    return lines[first : first + 5]


@pytest.mark.parametrize("option", ["--untrained=0", "--split=test-dev", "--images=a", "--results=a.json"])
def test_a_score_is_stored_in_a_checkpoint_only(option):
    run = run_main(evaluation.main, "--choose-score", option)
    assert run.returncode == 2 and "cannot be combined with --choose-score, which changes a checkpoint" in run.stderr


def test_batches_find_the_same_as_single_pictures(tmp_path, data, weights):
    rows = []
    for size in (1, 3):
        folder = tmp_path / str(size)
        status, _, err = evaluate(folder, data, weights, overrides=(f"eval_cfg.batch_size={size}",))
        assert status == 0, err
        rows.append(json.loads((folder / "masks.json").read_text()))
    assert [row["image_id"] for row in rows[0]] == [row["image_id"] for row in rows[1]]
    np.testing.assert_allclose([row["score"] for row in rows[0]], [row["score"] for row in rows[1]], atol=1e-4)


def test_test_dev_writes_the_file_for_the_server(tmp_path, data, weights):
    status, out, err = evaluate(tmp_path, data, weights, "--split=test-dev", overrides=unannotated_overrides(data))
    assert status == 0, err
    name = "detections_test-dev2017_solov2_tiny_shapes_results"
    assert f"{name}.zip" in out
    with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
        assert archive.namelist() == [f"{name}.json"]
        rows = json.loads(archive.read(f"{name}.json"))
    assert rows
    assert all(row.keys() == {"image_id", "category_id", "score", "segmentation"} for row in rows)


def test_pictures_without_annotations(tmp_path, data, weights):
    status, out, err = evaluate(tmp_path, data, weights, "--images", str(data / "images"))
    assert status == 0, err
    assert f"{trainings.PICTURES} pictures" in out
    assert len(list(tmp_path.glob("*.jpg"))) == trainings.PICTURES
    assert {row["file_name"] for row in json.loads((tmp_path / "results.json").read_text())}


def test_drawings_do_not_replace_other_files(tmp_path, data, weights):
    (tmp_path / "000002.jpg").write_text("a file of the user")
    status, _, err = evaluate(tmp_path, data, tmp_path / "no.pdparams", "--images", str(data / "images"))
    assert status == 2 and "000002.jpg: not written by this project" in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["000002.jpg"]


def test_damaged_annotations_are_named_and_left_out(tmp_path, data, weights):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    content = json.loads((damaged / "annotations.json").read_text())
    content["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": "x"}  # an endless loop in pycocotools
    (damaged / "annotations.json").write_text(json.dumps(content))
    status, out, err = evaluate(tmp_path / "out", damaged, weights)
    assert status == 0, err
    assert out.startswith("1 annotation with an RLE whose runs do not fill the picture, left out: ")
    content["annotations"] = []
    (damaged / "annotations.json").write_text(json.dumps(content))
    status, _, err = evaluate(tmp_path / "out", damaged, weights)
    assert status == 2 and "has no usable instance" in err


@pytest.mark.parametrize("what", [("--images", "{data}/images"), ("--split=test-dev",), ("--split=val",)])
def test_only_the_first_process_writes_and_prints(tmp_path, data, weights, monkeypatch, what):
    second = World(rank=1, size=2)
    monkeypatch.setattr(World, "gather", lambda self, value: [value, value])
    monkeypatch.setattr(evaluation, "join_world", lambda: second)
    more = [word.format(data=data) for word in what]
    status, out, err = evaluate(tmp_path / "out", data, weights, *more, overrides=unannotated_overrides(data))
    assert (status, out) == (0, ""), err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_data_that_cannot_be_evaluated_is_one_line(tmp_path, data, weights):
    incomplete = tmp_path / "incomplete"
    shutil.copytree(data, incomplete)
    (incomplete / "images" / "000003.jpg").unlink()
    renamed = tmp_path / "renamed"
    shutil.copytree(trainings.data_set(), renamed)
    annotations = json.loads((incomplete / "annotations.json").read_text())
    annotations["annotations"][0]["bbox"] = []  # its pictures can be evaluated all the same
    (incomplete / "annotations.json").write_text(json.dumps(annotations))
    missing = f"1 of its 8 pictures cannot be evaluated (1 image not found in {incomplete / 'images'}, left out: "
    missing += f"{incomplete / 'annotations.json'} image 3 '000003.jpg'); correct"
    for folder, says in ((incomplete, missing), (renamed, "category names")):
        status, _, err = evaluate(tmp_path / "out", folder, weights)
        assert status == 2
        assert len(err.splitlines()) == 1 and says in err, err
    status, _, err = evaluate(
        tmp_path / "out", data, weights, "--split=test-dev", overrides=unannotated_overrides(incomplete)
    )
    assert status == 2 and "1 of its 8 pictures cannot be evaluated" in err
    status, _, err = evaluate(tmp_path / "out", data, tmp_path / "nothing.pdparams")
    assert (status, len(err.splitlines())) == (2, 1)


@pytest.mark.parametrize("split", ["val", "test-dev"])
def test_the_data_is_read_before_the_network_is_built(tmp_path, data, weights, monkeypatch, split):
    """Compiling a large network takes a minute."""
    monkeypatch.setattr(evaluation, "build_predictor", None)
    (tmp_path / "data").mkdir()
    status, _, err = evaluate(tmp_path / "out", tmp_path / "data", weights, f"--split={split}")
    assert status == 2 and "cannot be read" in err, err


def test_a_network_among_the_pictures_is_one_line():
    status, _, err = run_main(evaluation.main, "--engine=onnx", "--images", "photos", "shapes.onnx")
    assert status == 2 and "shapes.onnx: is a network in the place of a picture; give it before --images" in err


def test_a_score_is_not_chosen_among_some_of_the_instances(tmp_path, weights):
    options = "--weights", weights, "--choose-score", "-o", "eval_cfg.score=0.5"
    status, _, err = run_main(evaluation.main, *options)
    assert status == 2 and "eval_cfg.score=0.5: --choose-score needs all instances" in err


@pytest.mark.parametrize("option", ["--classwise", "--match-score", "--max-dets=5"])
@pytest.mark.parametrize("pictures", [("--images", "x"), ("--split", "test-dev")])
def test_options_for_annotations_conflict_with_pictures_without_them(option, pictures):
    status, _, err = run_main(evaluation.main, option, *pictures)
    assert status == 2 and err.count("\n") == 1
    assert f"{option.partition('=')[0]}: cannot be combined with {pictures[0]}" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images=x", "--data-root=x"], "--data-root: cannot be combined with --images"),
        (["--images=x", "-o", "eval_cfg.score=0.5"], "-o eval_cfg.score=0.5: has no effect with --images"),
        (["--choose-score", "-o", "test_cfg.score=0.5"], "-o test_cfg.score=0.5: has no effect with --choose-score"),
        (["-o", "test_cfg.batch_size=2"], "-o test_cfg.batch_size=2: has no effect with annotations"),
    ],
)
def test_fields_without_an_effect_are_refused(options, words):
    status, _, err = run_main(evaluation.main, *options)
    assert (status, err.count("\n")) == (2, 1) and words in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine=dynamic"], ["--engine onnx; add it"]),
        (["--engine=onnx", "--config=3"], ["--config", "brings its own"]),
        (["--engine=onnx", "--weights=a.pdparams"], ["--weights", "brings its own"]),
        (["--engine=onnx", "--precision=bf16"], ["--precision", "brings its own"]),
        (["--engine=onnx"], ["none.onnx", "No such file"]),
    ],
)
def test_options_that_conflict_with_an_exported_file_are_one_line(options, words):
    if words[-1] == "No such file":
        pytest.importorskip("onnxruntime")
    status, _, err = run_main(evaluation.main, "none.onnx", *options)
    assert status == 2 and err.count("\n") == 1
    assert all(word in err for word in words)
