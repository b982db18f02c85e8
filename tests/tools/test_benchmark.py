"""`tools/benchmark.py`: the times of each stage, the comparison of engines, and errors of one line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from config.base import PROJECT
from data.images import read_image, write_image
from tests.support import tiny
from tests.support.programs import Finished, children_of, has_ended, python_command, run_main, run_python
from tools import benchmark as program
from tools.benchmark import _let_pass, lines_of
from tools.common.plots import LINE_COLORS
from tools.predict.load import load_predictor

BENCHMARK = PROJECT / "tools/benchmark.py"


def benchmark(*arguments: object, cwd: Path) -> Finished:
    return run_python(BENCHMARK, *tiny.OPTIONS, "--untrained=0", *arguments, cwd=cwd)


def test_times_of_all_stages(tmp_path):
    photos = tmp_path / "photos"
    for number in range(4):
        write_image(photos / f"{number}.png", tiny.scene(number))
    options = "--limit=3", "--candidates=20", "--json=new/times.json"
    done = benchmark("--images", photos, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (figures,) = json.loads((tmp_path / "new" / "times.json").read_text())
    assert (figures["pictures"], figures["skipped"], figures["threads"]) == (3, 0, 0)
    assert 10 <= figures["candidates"] <= 40 and f" {figures['candidates']:.0f} " in done.stdout
    assert (figures["config"], figures["device"]) == ("solov2_light_448_r18_fpn_8gpu_3x", "cpu")
    assert list(figures["milliseconds"]) == ["read", "preprocess", "network", "decode", "encode", "results"]
    totals = {stage: row["total"] for stage, row in figures["milliseconds"].items()}
    network = totals.pop("network")
    assert figures["share_beside_network"] == pytest.approx(sum(totals.values()) / (sum(totals.values()) + network))
    assert figures["pictures_per_second"] <= 1000 * 3 / (network + sum(totals.values()))
    assert 50 < figures["peak_memory_mib"] < 20_000
    assert 0 < figures["share_of_peak"] < 1
    assert figures["share_of_peak"] == pytest.approx(
        1000 * figures["gflop"] / figures["milliseconds"]["network"]["median"] / figures["peak_gflop_per_second"]
    )
    assert "solov2_light_448_r18_fpn_8gpu_3x dynamic fp32" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "photos"]


def test_two_engines_are_compared(tmp_path):
    photo = tmp_path / "1.png"
    write_image(photo, tiny.scene(1))
    files = {name: tmp_path / f"times.{name}" for name in ("json", "csv", "png")}
    options = "--vs=static", "--json", files["json"], "--csv", files["csv"], "--plot", files["png"]
    done = benchmark("--images", photo, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = json.loads(files["json"].read_text())
    assert [line["engine"] for line in lines] == ["dynamic", "static"]
    assert "dynamic fp32 against static fp32: network " in done.stdout.splitlines()[-1]
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["engine"] for row in rows] == ["dynamic", "static"]
    for row, line in zip(rows, lines):
        assert float(row["network_median_ms"]) == line["milliseconds"]["network"]["median"]
        assert float(row["share_of_peak"]) == line["share_of_peak"] and row["machine"] == line["machine"]
    assert {tuple(color) for color in LINE_COLORS[:2]} <= {
        tuple(pixel) for pixel in read_image(files["png"])[:, ::2].reshape(-1, 3).tolist()
    }


def test_a_line_that_cannot_be_measured_leaves_the_others(tmp_path, monkeypatch):
    write_image(tmp_path / "1.png", tiny.scene(1))
    options = "--untrained=0", f"--images={tmp_path}"
    assert run_main(program.main, *tiny.OPTIONS, *options, f"--json={tmp_path / 'one.json'}").returncode == 0
    (figures,) = json.loads((tmp_path / "one.json").read_text())
    for rows, status, ratios in (([figures, None, None, figures], 2, 0), ([figures] * 4, 0, 2), ([None] * 4, 2, 0)):
        monkeypatch.setattr(program, "_measure_apart", Mock(side_effect=rows))
        written = tmp_path / f"{status}.csv"
        done = run_main(program.main, "--config=3,20", *options, "--vs", "dynamic", f"--csv={written}")
        assert done.returncode == status and done.stdout.count(" against ") == ratios
        assert done.stdout.count(f"\n{figures['config']} ") >= sum(map(bool, rows))
        assert not any(rows) or len(written.read_text().splitlines()) == 1 + sum(map(bool, rows))


def test_each_config_is_followed_by_its_comparison():
    ours = [("3", "auto", "bf16"), ("1", "auto", "bf16")]
    assert lines_of(["3", "1"], "auto", "bf16", []) == ours
    others = [("3", "onnx", "fp32"), ("3", "openvino", "int8"), ("1", "onnx", "fp32"), ("1", "openvino", "int8")]
    found = lines_of(["3", "1"], "auto", "bf16", [("onnx", "fp32"), ("openvino", "int8")])
    assert found == [ours[0], *others[:2], ours[1], *others[2:]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--vs=onnx:bf16"], "expected one of dynamic:fp32, static:fp32"),
        (["--vs=numpy"], "expected one of dynamic:fp32, static:fp32"),
        (["--engine=static", "--vs", "dynamic", "static:fp32"], "--vs static:fp32: is timed already"),
        (["--vs", "dynamic", "dynamic"], "--vs dynamic:fp32: is timed already"),
        (["--streams=2"], "--streams: add --threads 2 or more"),
        (["--csv=a.csv", "--json=a.csv"], "a.csv: would be written twice"),
        (["--plot=a.xyz"], ".xyz is not a picture format"),
    ],
)
def test_an_option_that_is_impossible_is_one_line(options, says, tmp_path):
    write_image(tmp_path / "1.png", tiny.scene(1))
    done = benchmark("--images", tmp_path, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr
    assert says in done.stderr


def test_a_mistake_is_reported_before_timing(tmp_path):
    write_image(tmp_path / "1.png", tiny.scene(1))
    done = benchmark("--images", tmp_path, "--config=3,77", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmark.py: error: ") and "77" in line


def test_an_output_that_cannot_be_written_is_reported_before_timing(tmp_path):
    write_image(tmp_path / "1.png", tiny.scene(1))
    before = (tmp_path / "1.png").read_bytes()
    for place, expected in (("1.png", "is read too"), ("1.png/figures.json", "cannot be written")):
        done = benchmark("--images", tmp_path, "--config=3,1", "--json", tmp_path / place, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("benchmark.py: error: ") and expected in line
    assert (tmp_path / "1.png").read_bytes() == before


def test_no_readable_picture_is_a_mistake(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    done = benchmark("--images", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    skipped, error = done.stderr.splitlines()
    assert skipped.startswith("skipped ")
    assert error.startswith("benchmark.py: error: ")


@pytest.mark.parametrize(
    ("number", "overrides"), [(tiny.CONFIG, tiny.OVERRIDES), (tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)]
)
def test_the_threshold_of_the_candidates_is_that_of_decoding(tmp_path, number, overrides):
    write_image(tmp_path / "1.png", tiny.scene(1))
    predictor = load_predictor(number, untrained=0, overrides=overrides, engine="dynamic", score=0.0)
    before = predictor.config.nms.score_thr
    _let_pass(5, predictor, [tmp_path / "1.png"])
    configs = predictor.config, predictor._decoder_config, predictor.engine.config
    assert {config.nms.score_thr for config in configs} == {predictor.config.nms.score_thr} != {before}


def test_more_candidates_than_there_are_is_one_line(tmp_path):
    write_image(tmp_path / "1.png", tiny.scene(1))
    done = benchmark("--images", tmp_path / "1.png", "--candidates=100000000", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--candidates 100000000: picture 1 has only" in done.stderr


@pytest.mark.parametrize("options", [[], ["--candidates=20"]])
def test_an_unreadable_picture_with_the_default_config(tmp_path, options):
    (tmp_path / "photo.jpg").write_text("no picture")
    done = run_python(BENCHMARK, "--untrained=0", "--images", tmp_path / "photo.jpg", *options, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "none of 1 pictures could be read" in done.stderr.splitlines()[-1] and "photo.jpg" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the children of a process")
def test_ctrl_c_ends_both_processes_with_one_line(tmp_path):
    """A terminal sends it to all processes of the group."""
    (folder := tmp_path / "temporary").mkdir()
    write_image(tmp_path / "0.png", tiny.scene(0))
    for number in range(1, 2000):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "0.png")
    command = python_command(BENCHMARK, *tiny.OPTIONS, "--untrained=0", "--images", tmp_path, "--vs", "static")
    environment = os.environ | {"TMPDIR": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment)
    try:
        while len(list(folder.iterdir())) < 2:  # one of each process, the second when it times
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended by itself with {process.wait(0.02)}")
        (child,) = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert has_ended(child)
