from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.images import write_image
from tests import tiny

BENCHMARK = Path(__file__).resolve().parent.parent.parent / "tools" / "benchmark.py"


def benchmark(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARK, *tiny.OPTIONS, "--untrained=0", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=cwd)


def test_it_times_the_stages_up_to_the_results_file(tmp_path):
    photos = tmp_path / "photos"
    for number in range(4):
        write_image(photos / f"{number}.png", tiny.scene(number))
    done = benchmark("--images", photos, "--limit=3", "--json", "new/times.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads((tmp_path / "new" / "times.json").read_text())
    assert (figures["pictures"], figures["skipped"], figures["threads"]) == (3, 0, 0)
    assert (figures["config"], figures["device"]) == ("solov2_light_448_r18_fpn_8gpu_3x", "cpu")
    assert list(figures["milliseconds"]) == ["read", "preprocess", "network", "decode", "encode", "results"]
    totals = {stage: row["total"] for stage, row in figures["milliseconds"].items()}
    network = totals.pop("network")
    assert figures["share_beside_network"] == pytest.approx(sum(totals.values()) / network)
    assert figures["pictures_per_second"] <= 1000 * 3 / (network + sum(totals.values()))
    assert 50 < figures["peak_memory_mib"] < 20_000
    assert "3 pictures" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "photos"]


def test_nothing_to_time_is_a_mistake(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    done = benchmark("--images", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    skipped, error = done.stderr.splitlines()
    assert skipped.startswith("skipped ")
    assert error.startswith("benchmark.py: error: ")
