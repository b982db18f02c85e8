"""From the file of a published checkpoint to drawn pictures, by the two commands that a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from pycocotools.coco import COCO

from config import load_config, registry
from convert.conversion import network_shapes
from data.images import read_image
from tests.support import foreign_names
from tests.support.checkpoint_writers import write_pdparams, write_torch_legacy, write_torch_zip
from tests.support.parity import COCO_TINY, Fixture, foreign_checkpoint, needs_coco, needs_parity, recipe
from tests.support.programs import override_options, run_python

pytestmark = [needs_parity, needs_coco]

PICTURES = sorted((COCO_TINY / "val2017").glob("*.jpg"))
A_FEW = PICTURES[::20]
# (writer of the file, its content, the script, the config)
FILES = {
    "old .pth": (write_torch_legacy, "solo_solov2_light_448_r18_fpn_8gpu_3x_evalc", "solo2paddle", 3),
    "new .pth": (write_torch_zip, "solo_solov2_light_448_r50_fpn_8gpu_3x_evalc", "solo2paddle", 1),
    "OpenFirework": (write_torch_zip, "openfirework_solov2_r34", "openfirework2paddle", 4),
    "PaddleDetection 0.5": (write_pdparams, "ppdet05_solov2_light_r50_vd_fpn_dcn_512_3x_evalk", "ppdet2paddle", 2),
    "PaddleDetection 2.x": (write_pdparams, "ppdet_solov2_r50_enhance_coco_evalk", "ppdet2paddle", 11),
    "SOLO": (write_torch_legacy, "solo_solo_r50_fpn_8gpu_3x_evalc", "solo2paddle", 13),
    "Decoupled SOLO": (write_torch_zip, "solo_decoupled_solo_light_r50_fpn_8gpu_3x_evalc", "solo2paddle", 18),
}
# Models without recorded numbers, with the names that their program gives to the weights.
UNRECORDED = {
    "deformable in the backbone": (write_torch_legacy, foreign_names.solo, "solo2paddle", 8),
    "ResNet-101": (write_torch_legacy, foreign_names.solo, "solo2paddle", 7),
    "ResNeXt": (write_torch_legacy, foreign_names.solo, "solo2paddle", 9),
    "deformable everywhere": (write_pdparams, foreign_names.ppdet_2, "ppdet2paddle", 10),
}
CLASSES = "data/coco_classes.txt"
SMALL = ("-o", "data.short_side=96", "-o", "data.long_side=160", "--engine=dynamic")


def printed_by(*arguments: object) -> str:
    done = run_python(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def convert_and_run(kind: str, folder: Path, pictures: list[Path], *options: str) -> tuple[list[dict], Path]:
    """Convert a file and run it on pictures; return COCO rows and the folder of drawings."""
    write, content, script, config = {**FILES, **UNRECORDED}[kind]
    write(folder / "published", published_weights(content, config))
    converted, rows, drawings = folder / "ours.pdparams", folder / "rows.json", folder / "drawn"
    conversion = [f"convert/{script}.py", folder / "published", f"--config={config}", "--output", converted]
    assert f"config {config} " in printed_by(*conversion)
    arguments = ["--config", config, "--weights", converted, "--output", drawings, "--json", rows, "--score", 0.05]
    assert f"{len(pictures)} pictures, " in printed_by("demo.py", *arguments, *options, "--input", *pictures)
    return json.loads(rows.read_text()), drawings


def published_weights(content: str | Callable, config: int) -> dict[str, np.ndarray]:
    """Return the weights of a file by the names of its program: recorded ones, or random ones drawn by name."""
    if isinstance(content, str):
        return Fixture(content).checkpoint() if "_eval" in content else foreign_checkpoint(content)
    ours = network_shapes(load_config(config))
    weights = recipe().state({name: ours[own] for own, name in content(ours).items()})
    for name in weights:
        if name.endswith("solo_cate.bias"):
            weights[name] -= 2.0  # so that only some of the cells find something
    return weights


def check(rows: list[dict], drawings: Path, pictures: list[Path]) -> None:
    annotated = COCO(COCO_TINY / "annotations" / "instances_val2017.json")
    found = annotated.loadRes(rows)
    assert len(found.getAnnIds()) == len(rows)
    sizes = {row["image_id"]: tuple(row["segmentation"]["size"]) for row in rows}
    for picture in annotated.loadImgs([int(path.stem) for path in pictures]):
        size = (picture["height"], picture["width"])
        assert sizes.get(picture["id"], size) == size
        assert read_image(drawings / picture["file_name"]).shape[:2] == size


@pytest.mark.parametrize("kind", ["old .pth", "new .pth", "PaddleDetection 0.5"])
def test_a_published_file_runs_over_coco_pictures(kind, tmp_path):
    """Few pictures, a reduced input size and the smaller files keep this test fast."""
    check(*convert_and_run(kind, tmp_path, A_FEW, *SMALL), A_FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FILES, *UNRECORDED])
def test_a_published_file_runs_over_all_coco_pictures_at_full_size(kind, tmp_path):
    rows, drawings = convert_and_run(kind, tmp_path, PICTURES)
    check(rows, drawings, PICTURES)
    assert len(rows) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("number", registry())
def test_every_config_learns_and_is_evaluated(number, tmp_path):
    """Train one step on small pictures and evaluate the checkpoint."""
    own = {"train_cfg.model_path": "", "train_cfg.processes": 1, "augment.short_sides": 96, "classes_path": CLASSES}
    for split in ("train", "val"):
        own[f"{split}_path"] = COCO_TINY / "annotations" / f"instances_{split}2017.json"
        own[f"{split}_pre_path"] = COCO_TINY / f"{split}2017"
    overrides = override_options(*(f"{field}={value}" for field, value in own.items()))
    printed_by("train.py", f"--config={number}", *overrides, *SMALL[:-1], "--max-iters=1", "--output", tmp_path)
    weights = sorted(tmp_path.glob("step_*.pdparams"))[-1]
    evaluated = printed_by(
        "eval.py", f"--config={number}", *overrides, *SMALL, "--weights", weights, "--output", tmp_path
    )
    assert f"{len(PICTURES)} pictures" in evaluated
