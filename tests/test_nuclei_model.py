"""The trained model for nuclei in the repository counts them, and has the score that the guides state."""

from __future__ import annotations

from shutil import copytree, ignore_patterns

import pytest

from config import load_config
from config.base import PROJECT
from data.images import find_images
from tests.support.parity import SHARED
from tests.support.programs import run_python
from tools.predict.load import load_predictor

CONFIG = load_config(21)
ANNOTATED = {"B04": 104, "F22": 152, "K12": 231, "M20": 63, "N12": 202, "O10": 20}  # nuclei of each picture


def test_it_is_small():
    assert CONFIG.model_path("test_cfg").stat().st_size < 8e6


def test_it_counts_the_nuclei_of_the_pictures_in_the_repository():
    predictor = load_predictor(21, device="cpu")
    counts = {path.name.split("_")[1]: len(predictor(path)) for path in find_images([PROJECT / CONFIG.demo_input])}
    assert counts == {well: pytest.approx(count, rel=0.25) for well, count in ANNOTATED.items()}
    assert sum(counts.values()) == pytest.approx(sum(ANNOTATED.values()), rel=0.15)


@pytest.mark.slow
def test_its_score_is_that_of_the_guides(tmp_path):
    nuclei = SHARED / "nuclei"
    if not nuclei.exists():
        pytest.skip(f"{nuclei} is missing")
    copytree(nuclei, tmp_path / "nuclei", ignore=ignore_patterns("*.md"))
    folder = tmp_path / "nuclei"
    annotations = folder / "train.json"
    masks = ["--masks", folder / "masks", "--channel", "red", "--connected", "--class", "nucleus"]
    names = ["--names", folder / "train.txt", "--val-names", folder / "validation.txt", "--output", annotations]
    paths = [f"-oval_path={folder / 'train_val.json'}", f"-oval_pre_path={folder / 'images'}"]
    evaluate = ["eval.py", "--config=21", *paths, "--output", tmp_path / "report"]
    for command in (["tools/masks2coco.py", folder / "images", *masks, *names], evaluate):
        done = run_python(*command)
        assert done.returncode == 0, done.stderr
    [scores] = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("S ")]
    assert float(scores[0]) >= 0.78
    assert f"| S at IoU | {' | '.join(scores)} |" in (PROJECT / "docs/datasets.md").read_text(encoding="utf-8")
