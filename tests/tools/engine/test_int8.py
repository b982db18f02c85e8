"""The small model in INT8: its accuracy is that of float32."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import demo
from config.base import PROJECT
from data.shapes import draw_scene, write_coco
from tests.support.programs import run_main
from tools import quantize
from tools.predict.load import load_predictor

WEIGHTS = PROJECT / "weights" / "solov2_tiny_shapes.pdparams"


@pytest.mark.slow
@pytest.mark.skipif(not quantize.is_installed(), reason="the extra [int8] is not installed")
def test_the_small_model_in_int8(tmp_path):
    weights = shutil.copyfile(WEIGHTS, tmp_path / "shapes.pdparams")
    scenes = [draw_scene(rng=np.random.default_rng([6, i]), height=320, width=320) for i in range(8)]
    write_coco(scenes=scenes, output=tmp_path)
    pictures, annotations = tmp_path / "images", tmp_path / "annotations.json"
    images = "--weights", weights, "--images", pictures
    status, out, err = run_main(quantize.main, *images, "--annotations", annotations, "--pictures", pictures)
    assert status == 0, err
    assert f"wrote {tmp_path / 'shapes.int8'}, calibrated with 8 pictures" in out
    assert out.splitlines()[-3].split() == ["MB", "ms", "a", "picture", "mask", "AP", "AP50"]
    before, after = (float(line.split()[3]) for line in out.splitlines()[-2:])
    assert before > 20 and abs(after - before) < 2
    exact, ours = (load_predictor(20, weights, precision=precision) for precision in ("fp32", "int8"))
    assert ours.engine_name == "openvino"
    first, second = exact(scenes[0].image), ours(scenes[0].image)
    assert len(first) == len(second) and (first.classes == second.classes).all()
    assert 0 < np.abs(first.scores - second.scores).max() < 0.1
    drawn = "--input", pictures, "--no-draw", "--weights", weights, "--precision", "int8"
    assert run_main(demo.main, *drawn).returncode == 0
