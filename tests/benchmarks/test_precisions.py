"""The benchmark of precisions prints, for a network that is quantized in seconds, all lines and ratios."""

from __future__ import annotations

import pytest

from config.base import PROJECT
from tests.benchmarks import precisions
from tests.support.programs import run_main
from tools import quantize


@pytest.mark.slow
@pytest.mark.skipif(not quantize.is_installed(), reason="the extra [int8] is not installed")
def test_all_precisions_of_a_small_network(tmp_path):
    options = "--configs", 20, "--images", PROJECT / "images" / "test", "--limit", 2, "--output", tmp_path
    done = run_main(precisions.main, *options)
    assert done.returncode == 0, done.stderr
    others = precisions.OTHERS
    for line in ("openvino int8", *(f"{other} fp32".replace(":bf16 fp32", " bf16") for other in others)):
        assert f"solov2_tiny_shapes {line} " in done.stdout
    assert done.stdout.count("times as fast\n") == 2 * len(others) - 1
    assert (tmp_path / "table.csv").exists() and (tmp_path / "table.png").exists()
