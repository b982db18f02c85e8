"""Training overfits eight real pictures: everything from the annotation file to AP works together."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.parity import COCO_TINY, needs_coco
from tests.support.programs import override_options, run_python
from tools.train.log import read_log

PICTURES = 8
SETTINGS = (
    "classes_path=data/coco_classes.txt",
    "data.short_side=384",
    "data.long_side=640",
    "augment.short_sides=()",
    "augment.flip=0",
    "augment.flip_vertical=0",
    "augment.turn=0",
    "train_cfg.epochs=700",  # of one step each
    "train_cfg.warmup_iters=50",
    "train_cfg.weight_decay=0",
    "train_cfg.ema_decay=0.98",
    "train_cfg.save_every=100",
    "train_cfg.eval_every=700",
    "eval_cfg.score=0.05",
)


@pytest.mark.slow
@needs_coco
def test_training_overfits_eight_pictures(tmp_path):
    """Takes up to half an hour on two cores. Set OVERFIT_FOLDER to keep the run and look at it."""
    folder = Path(os.environ.get("OVERFIT_FOLDER", tmp_path))
    annotations = write_first_pictures(folder / "annotations.json")
    pictures = COCO_TINY / "train2017"
    paths = [f"{split}_path={annotations}" for split in ("train", "val")]
    paths += [f"{split}_pre_path={pictures}" for split in ("train", "val")]
    options = override_options(*SETTINGS, *paths)
    done = run_python("train.py", "--config=20", *options, "--output", folder / "run", timeout=3600)
    assert done.returncode == 0, done.stderr
    assert read_log(folder / "run")[-1]["mask_ap"] >= 0.5


def write_first_pictures(path: Path) -> Path:
    """Write an annotation file of the first pictures with instances of a real one, crowds included."""
    content = json.loads((COCO_TINY / "annotations" / "instances_train2017.json").read_text())
    annotated = {row["image_id"] for row in content["annotations"] if not row.get("iscrowd")}
    content["images"] = [image for image in content["images"] if image["id"] in annotated][:PICTURES]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
