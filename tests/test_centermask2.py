"""demo.py, eval.py and train.py with CenterMask2, as a user runs them."""

from __future__ import annotations

import json
import math
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pycocotools.coco import COCO

import demo
import eval as evaluation
import train
from data.images import write_image
from tests.support import tiny, trainings
from tests.support.coco_results import pycocotools_evaluation
from tests.support.exports import average_precisions, by_files, exported, needs_onnx
from tests.support.programs import override_options, run_main
from tools import browse_dataset, check_dataset
from tools.common.checkpoint import load_checkpoint
from tools.train.log import read_log

SMALL = [text for text in tiny.CENTERMASK2_OVERRIDES if not text.startswith("nms.")]
TRAINING = (
    "backbone.norm=batch",
    "backbone.train_norm=true",
    "augment.short_sides=64",
    "target.scale_ranges=-1,16,16,32,32,64,64,128,128,1e8",
    "train_cfg.model_path=",
    "train_cfg.batch_size=2",
    "train_cfg.epochs=1",
    "train_cfg.log_every=1",
    "train_cfg.optimizer=adamw",
    "train_cfg.lr=0.01",
    "nms.score_thr=0.005",
    "nms.max_per_img=5",
    "roi.train_boxes=5",
)


def printed_by(program: ModuleType, *arguments: object) -> str:
    """Run a program with a config of CenterMask2 and return what it prints; fail unless its exit status is 0."""
    done = run_main(program.main, f"--config={tiny.CENTERMASK2}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def data_options() -> list[str]:
    return override_options(*SMALL, *TRAINING, *trainings.data_paths())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    printed = printed_by(train, *data_options(), f"--output={folder}")
    assert "4 of 4 steps" in printed
    return folder


def test_train_writes_a_checkpoint_and_its_losses(trained):
    lines = read_log(trained)
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 4
    for line in steps:
        assert all(np.isfinite(line[name]) for name in ("category", "box", "centerness", "mask", "mask_iou"))
    assert any("mask_ap" in line for line in lines)
    checkpoint = load_checkpoint(next(iter(trained.glob("*.pdparams"))))
    assert checkpoint.config_name == "centermask2_v39_ese_fpn_ms_3x"
    assert "roi.mask_channels=8" in checkpoint.overrides


def test_a_resumed_training_goes_on(trained, tmp_path):
    once, parts = tmp_path / "once", tmp_path / "parts"
    options = [*data_options(), *override_options("train_cfg.eval_every=0")]
    printed_by(train, *options, f"--output={once}")
    printed_by(train, *options, f"--output={parts}", "--max-iters=2")
    printed_by(train, *options, f"--output={parts}", "--resume=auto")
    weights = [load_checkpoint(sorted(folder.glob("step_*.pdparams"))[-1]).weights for folder in (once, parts)]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)


def test_eval_scores_boxes_by_their_own_score(trained, tmp_path):
    weights = next(iter(trained.glob("*.pdparams")))
    printed = printed_by(
        evaluation, *data_options(), f"--weights={weights}", f"--output={tmp_path}", "--engine=dynamic"
    )
    boxes, masks = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("boxes", "masks"))
    assert len(boxes) == len(masks) > 0
    assert [row["score"] for row in boxes] != [row["score"] for row in masks]
    assert {row.keys() - {"segmentation"} == row.keys() for row in boxes} == {True}
    for kind, rows in (("segm", masks), ("bbox", boxes)):
        with redirect_stdout(StringIO()):
            truth = COCO(str(trainings.data_set() / "annotations.json"))
            found = truth.loadRes(rows)
        stats = pycocotools_evaluation(truth, found, kind).stats
        line = next(line for line in printed.splitlines() if line.startswith("mask" if kind == "segm" else "box"))
        assert line.split()[1] == f"{100 * stats[0]:.1f}"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_demo_draws_and_writes_what_it_finds(tmp_path, batch_size):
    for index, picture in enumerate((tiny.scene(0), tiny.scene(1, 64, 64), np.zeros((1, 1, 3), np.uint8))):
        write_image(tmp_path / "pictures" / f"{index}.png", picture)
    options = override_options(*tiny.CENTERMASK2_OVERRIDES, f"test_cfg.batch_size={batch_size}")
    printed = printed_by(
        demo,
        *options,
        "--untrained=0",
        "--engine=dynamic",
        f"--input={tmp_path / 'pictures'}",
        f"--output={tmp_path / 'drawn'}",
        f"--json={tmp_path / 'found.json'}",
        "--polygons",
    )
    assert printed.startswith("3 pictures")
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["image_id"] for row in rows} >= {0, 1}
    for row in rows:
        x, y, width, height = row["bbox"]
        assert x >= 0 and y >= 0 and width > 0 and height > 0
        assert math.isfinite(row["score"]) and 0 < row["box_score"] <= 1  # an estimated IoU may be below 0
        assert "polygons" in row
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 3


def test_the_tools_for_data_sets_leave_out_the_grids(tmp_path, capsys):
    options = [f"--config={tiny.CENTERMASK2}", *data_options(), f"--output={tmp_path}"]
    assert check_dataset.main(options) == 0
    assert "has no grids" in capsys.readouterr().out
    assert browse_dataset.main([*options, "--split=val", "--count=2"]) == 0
    assert len(list(tmp_path.glob("epoch0_*.png"))) == 2


OVERFITTING = (
    "backbone.kind=resnet",
    "backbone.depth=18",
    "backbone.stem_channels=16",
    "backbone.stage_channels=16,24,32,48",
    "neck.out_channels=32",
    "head.channels=32",
    "head.norm_groups=8",
    "roi.mask_channels=24",
    "roi.mask_convs=2",
    "roi.iou_channels=16",
    "roi.iou_features=32",
    "roi.train_boxes=20",
    "nms.score_thr=0.05",
    "nms.max_per_img=50",
    "data.short_side=128",
    "data.long_side=128",
    "augment.short_sides=128",
    "augment.flip=0",
    "target.scale_ranges=-1,32,32,64,64,128,128,256,256,1e8",
    "train_cfg.batch_size=4",
    "train_cfg.epochs=150",
    "train_cfg.eval_every=150",
    "train_cfg.log_every=50",
    "train_cfg.lr=0.003",
    "train_cfg.lr_batch=4",
    "train_cfg.schedule=cosine",
    "train_cfg.warmup_iters=20",
    "train_cfg.weight_decay=0",
    "train_cfg.clip_norm=5",
)


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory) -> Path:
    """Train 300 steps on eight pictures, which takes a minute on one core."""
    folder = tmp_path_factory.mktemp("overfitted")
    printed_by(train, *data_options(), *override_options(*OVERFITTING), f"--output={folder}")
    return folder


@pytest.mark.slow
def test_training_overfits_eight_pictures(overfitted):
    """Boxes, masks and scores mean the same in training and in prediction."""
    assert read_log(overfitted)[-1]["mask_ap"] >= 0.5


@needs_onnx
@pytest.mark.slow
def test_ap_of_the_exported_network_is_the_same(overfitted, tmp_path):
    weights = f"--weights={next(iter(overfitted.glob('*.pdparams')))}"
    number, size = f"--config={tiny.CENTERMASK2}", "--input-size=160x128"
    model = exported(number, weights, "--end-to-end", size, overrides=())
    paths = [text for text in trainings.data_paths() if text.startswith("val_")]
    rest = *override_options(*paths), f"--output={tmp_path}"
    dynamic = printed_by(evaluation, weights, *override_options("data.fixed_size=160,128"), "--engine=dynamic", *rest)
    status, onnx, err = run_main(evaluation.main, "--engine=onnx", model, *rest)
    assert status == 0, err
    of_files = by_files(model, trainings.data_set(), tmp_path)
    numbers = [average_precisions(text) for text in (dynamic, onnx, of_files)]
    assert len(numbers[0]) == len(numbers[1]) == len(numbers[2]) >= 12 and numbers[0][0] > 20
    np.testing.assert_allclose(numbers[1:], [numbers[0]] * 2, atol=0.1)  # percent
