"""From a published checkpoint's file to drawn pictures, through the two command lines a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from config.base import PROJECT
from data.images import read_image
from tests.checkpoint_writers import write_pdparams, write_torch_legacy, write_torch_zip
from tests.parity import COCO_TINY, Fixture, foreign_checkpoint, needs_coco, needs_parity

pytestmark = [needs_parity, needs_coco]

PICTURES = sorted((COCO_TINY / "val2017").glob("*.jpg"))
A_FEW = PICTURES[::20]
# (how the file is written, what is in it, the script, the config)
FILES = {
    "old .pth": (write_torch_legacy, "solo_solov2_light_448_r18_fpn_8gpu_3x_evalc", "solo2paddle", 3),
    "new .pth": (write_torch_zip, "solo_solov2_light_448_r50_fpn_8gpu_3x_evalc", "solo2paddle", 1),
    "OpenFirework": (write_torch_zip, "openfirework_solov2_r34", "openfirework2paddle", 4),
    "PaddleDetection 0.5": (write_pdparams, "ppdet05_solov2_light_r50_vd_fpn_dcn_512_3x_evalk", "ppdet2paddle", 2),
    "PaddleDetection 2.x": (write_pdparams, "ppdet_solov2_r50_enhance_coco_evalk", "ppdet2paddle", 11),
}
SMALL = ("-o", "data.short_side=96", "-o", "data.long_side=160", "--engine=dynamic")


def python(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def convert_and_run(kind: str, folder: Path, pictures: list[Path], *options: str) -> tuple[list[dict], Path]:
    """COCO rows and the folder of drawings."""
    write, content, script, config = FILES[kind]
    weights = Fixture(content).checkpoint() if "_eval" in content else foreign_checkpoint(content)
    write(folder / "published", weights)
    converted, rows, drawings = folder / "ours.pdparams", folder / "rows.json", folder / "drawn"
    assert f"config {config} " in python(f"convert/{script}.py", folder / "published", "--output", converted)
    arguments = ["--config", config, "--weights", converted, "--output", drawings, "--json", rows, "--score", 0.05]
    assert f"{len(pictures)} pictures, " in python("demo.py", *arguments, *options, "--input", *pictures)
    return json.loads(rows.read_text()), drawings


def check(rows: list[dict], drawings: Path, pictures: list[Path]) -> None:
    annotated = COCO(COCO_TINY / "annotations" / "instances_val2017.json")
    found = annotated.loadRes(rows)
    assert len(found.getAnnIds()) == len(rows)
    sizes = {row["image_id"]: tuple(row["segmentation"]["size"]) for row in rows}
    for picture in annotated.loadImgs([int(path.stem) for path in pictures]):
        size = (picture["height"], picture["width"])
        assert sizes.get(picture["id"], size) == size
        assert read_image(drawings / picture["file_name"]).shape[:2] == size


@pytest.mark.parametrize("kind", FILES)
def test_a_published_file_runs_over_coco_pictures(kind, tmp_path):
    """A few of them and at a reduced size of input, to be fast."""
    check(*convert_and_run(kind, tmp_path, A_FEW, *SMALL), A_FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_published_file_runs_over_all_coco_pictures_at_full_size(kind, tmp_path):
    rows, drawings = convert_and_run(kind, tmp_path, PICTURES)
    check(rows, drawings, PICTURES)
    assert len(rows) > 1000
