"""`demo.py` as a user runs it: pictures of every kind, results, errors of one line, and Ctrl-C."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import subprocess
import time
import zipfile
from collections import Counter
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from config.base import PROJECT
from data.images import find_images, read_image, write_image
from demo import main
from tests.support import tiny
from tests.support.programs import Finished, override_options, python_command, run_main, run_python
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.predict.load import untrained_network

DEMO = PROJECT / "demo.py"
UNTRAINED = (*tiny.OPTIONS, "--untrained=0")


def demo(*arguments: object) -> Finished:
    return run_main(main, *arguments)


def message_of(done: Finished) -> str:
    """Return the message, one line, of a run that ended with a user's mistake."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("skipped ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("demo.py: error: ")
    return lines[0]


def mistake(*arguments: object) -> str:
    done = demo(*arguments)
    assert done.stdout == ""
    return message_of(done)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        write_image(folder / f"{number + 11:012d}.png", tiny.scene(number))
    return folder


def write_odd_pictures(folder: Path) -> dict[str, tuple[int, int]]:
    """Write pictures of every kind; return the (height, width) of each one when upright."""
    scene = tiny.scene(1, 80, 120)
    picture = Image.fromarray(scene)
    exif = Image.Exif()
    exif[0x112] = 6
    picture.save(folder / "rotated.jpg", exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture.rotate(180)])
    picture.save(folder / "UPPER.JPG")
    cv2.imwrite(str(folder / "deep.png"), scene.astype(np.uint16) * 257)
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    picture.resize((20000, 200)).save(folder / "strip.jpg")
    ordinary = dict.fromkeys(["cmyk.jpg", "grey.png", "alpha.png", "deep.png", "UPPER.JPG"], (80, 120))
    gif = {"moving.gif": (80, 120)} if cv2.haveImageWriter(".gif") else {}
    return {"rotated.jpg": (120, 80), "pixel.png": (1, 1), "strip.jpg": (200, 20000), **ordinary, **gif}


def test_every_kind_of_picture_in_one_folder(tmp_path):
    source, drawn = tmp_path / "source", tmp_path / "drawn"
    source.mkdir()
    sizes = write_odd_pictures(source)
    (source / "cut.jpg").write_bytes((source / "UPPER.JPG").read_bytes()[:-200])
    (source / "text.png").write_text("no picture")
    (source / "empty.jpg").touch()
    (source / "notes.txt").write_text("not meant")
    done = run_python(DEMO, *UNTRAINED, "--input", source, "--output", drawn)
    assert done.returncode == 0, done.stderr
    skips = done.stderr.splitlines()
    assert all(line.startswith("skipped ") for line in skips)
    assert {path.stem for path in find_images([drawn])} == {Path(name).stem for name in sizes}
    for name, size in sizes.items():
        target = drawn / name if name != "moving.gif" else drawn / "moving.png"
        assert read_image(target).shape[:2] == size, name
    lines = done.stdout.splitlines()
    for name in ("cut.jpg", "text.png", "empty.jpg"):
        assert len([line for line in skips if name in line]) == 1, name
    assert "notes.txt" not in done.stderr
    skipped = 3 + (source / "moving.gif").exists() - ("moving.gif" in sizes)
    assert any(line.startswith(f"{skipped} pictures were skipped") for line in lines)
    assert any(line.startswith(f"{len(sizes)} pictures, ") for line in lines)


def test_results_statistics_and_outlines(photos, tmp_path):
    rows_path, stats_path = tmp_path / "new folder" / "rows.json", tmp_path / "stats.json"
    done = demo(
        *UNTRAINED, "--input", photos / "*13.png", photos, "--json", rows_path, "--polygons", "--stats", stats_path,
        "--output", tmp_path / "drawn",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "UNTRAINED" in done.stdout
    assert str(tmp_path / "drawn") in done.stdout
    rows = json.loads(rows_path.read_text())
    assert [image_id for image_id, _ in itertools.groupby(row["image_id"] for row in rows)] == [13, 11, 12]
    assert all(row["polygons"] for row in rows if row["bbox"][2])
    truth = {"info": {}, "images": [{"id": number} for number in (11, 12, 13)], "annotations": [], "categories": []}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with redirect_stdout(StringIO()):
        assert len(COCO(str(tmp_path / "truth.json")).loadRes(str(rows_path)).anns) == len(rows)
    stats = json.loads(stats_path.read_text())
    assert (stats["pictures"], stats["skipped"], stats["instances"]) == (3, 0, len(rows))
    for stage in ("read", "preprocess", "network", "decode", "draw", "write"):
        assert 0 <= stats["milliseconds"][stage]["median"] <= stats["milliseconds"][stage]["p95"]
    found = [tiny.tiny_predictor()(photos / f"{number:012d}.png") for number in (13, 11, 12)]
    expected = [row for one, number in zip(found, (13, 11, 12)) for row in one.to_coco(number, polygons=True)]
    assert [{key: row[key] for key in row if key != "file_name"} for row in rows] == expected


def test_a_name_that_is_not_utf8(tmp_path):
    source, drawn, rows = tmp_path / "source", tmp_path / "drawn", tmp_path / "rows.json"
    source.mkdir()
    names = {os.fsdecode(b"\xff.png"), "a.png"}
    for name in names:
        (source / name).write_bytes(cv2.imencode(".png", tiny.scene(0))[1].tobytes())
    # In a process of its own, because OpenCV ends it with a segmentation fault if it gets such a name.
    done = run_python(DEMO, *UNTRAINED, "--input", source, "--output", drawn, "--json", rows)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in drawn.glob("[!.]*")} == names
    found = json.loads(rows.read_bytes().decode())
    assert {row["file_name"] for row in found} == {f"{source}/\\xff.png", f"{source}/a.png"}


def test_no_drawings_and_a_score_that_nothing_reaches(photos, tmp_path):
    done = run_python(
        DEMO, *UNTRAINED, "--input", photos, "--no-draw", "--score=1", "--json", "rows.json", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 pictures, 0 instances" in done.stdout
    assert json.loads((tmp_path / "rows.json").read_text()) == []
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["rows.json"]


def test_the_list_of_configs_and_help():
    done = demo("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "solov2_light_448_r18_fpn_8gpu_3x" in done.stdout
    assert "github.com/WXinlong/SOLO" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config=99"], ["--config 99", "--list"]),
        (["-o", "nms.scorethr=0.1"], ["nms.scorethr", "did you mean nms.score_thr"]),
        (["-o", "nms.score_thr"], ["nms.score_thr", "section.field=value"]),
        (["--device=tpu"], ["device tpu", "cpu"]),
        (["--score=2"], ["--score", "0 to 1"]),
        (["--threads=-1"], ["--threads"]),
        (["--untrained=99999999999999999999"], ["--untrained"]),
        (["--polygons"], ["--polygons", "--json"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--input", "no/such/folder"], ["no/such/folder"]),
        (["--input", ""], ["an empty name"]),
        (["--output", ""], ["--output: an empty name"]),
        (["--weights", ""], ["--weights: an empty name"]),
        (["-o", "eval_cfg.score=0.9"], ["-o eval_cfg.score=0.9: has no effect with demo.py"]),
        (["--table", "cells.xlsx"], ["--table cells.xlsx", "as CSV", "cells.csv"]),
        (["--input", "two\nlines.jpg"], ["lines.jpg"]),
        (["--input", "no/such/*.jpg"], ["no/such/*.jpg"]),
        (
            ["--config=10", "--input", DEMO],
            ["solov2_r101_vd_fpn_3x.pdparams", "ppdet2paddle.py --download --config=10"],
        ),
        (["--config=9", "--input", DEMO], ["solov2_x101_dcn_fpn_8gpu_3x.pdparams", "convert/solo2paddle.py", "github"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_a_mistake_on_the_command_line_is_one_line(photos, arguments, expected):
    defaults = [] if DEMO in arguments else [*UNTRAINED, "--input", photos, "--no-draw"]
    message = mistake(*defaults, *arguments)
    for words in expected:
        assert words in message


def test_folders_without_pictures_or_without_readable_ones(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures in this folder" in mistake(*UNTRAINED, "--input", tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no picture")
    done = demo(*UNTRAINED, "--input", tmp_path / "bad", "--output", tmp_path / "drawn")
    assert "none of 1 pictures" in message_of(done)
    assert "a.jpg" in done.stderr
    assert not (tmp_path / "drawn").exists()


def test_places_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").touch()
    for option in ("--output", "--json", "--stats"):
        place = tmp_path / "file" / "below"
        message = message_of(demo(*UNTRAINED, "--input", photos, "--output", tmp_path / "drawn", option, place))
        assert str(place) in message
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are POSIX")
def test_a_full_disk_in_the_middle_of_a_drawing(photos, tmp_path):
    """A limit of 8 KiB on the size of files acts like a full disk; the drawings are larger."""
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *python_command(DEMO, *UNTRAINED)]
    command = [*limited, "--input", str(photos), "--output", str(tmp_path / "drawn")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "cannot be written" in message_of(done)
    assert not list(tmp_path.glob("drawn/[!.]*"))


def test_a_mistake_in_a_process_of_its_own():
    done = run_python(DEMO, "--config=3", "--input", "no/such/folder", "--untrained=0")
    assert "no/such/folder" in message_of(done)


def test_drawings_in_the_folder_of_the_pictures_are_refused(photos):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    assert "--output" in mistake(*UNTRAINED, "--input", photos, "--output", photos / ".." / photos.name)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_only_drawings_are_replaced_by_drawings(photos, tmp_path):
    arguments = (*UNTRAINED, "--input", photos, "--output", tmp_path)
    name = find_images([photos])[0].name
    (tmp_path / name).write_text("a file of the user")
    assert f"{name}: not written by this project" in mistake(*arguments, "--json", tmp_path / "rows.json")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "a file of the user"
    (tmp_path / name).unlink()
    for score in ("0", "0.5"):
        assert demo(*arguments, f"--score={score}").returncode == 0
    assert len(find_images([tmp_path])) == len(find_images([photos]))


def test_drawings_that_exist_are_read_once(photos, tmp_path, monkeypatch):
    checks = []
    monkeypatch.setattr("tools.predict.jobs.check_output_files", lambda paths: checks.append(list(paths)))
    assert demo(*UNTRAINED, "--input", photos, "--output", tmp_path).returncode == 0
    assert [len(paths) for paths in checks] == [len(find_images([photos]))]


def test_the_folders_of_the_demo_have_fields_of_their_own(photos, tmp_path):
    folders = (f"demo_input={photos}", f"demo_output={tmp_path / 'drawn'}", "test_path=no", "test_pre_path=no")
    done = demo(*UNTRAINED, *override_options(*folders))
    assert done.returncode == 0, done.stderr
    assert len(find_images([tmp_path / "drawn"])) == len(find_images([photos]))


def test_files_that_are_read_are_not_replaced_by_results(photos, tmp_path):
    picture = tmp_path / "1.png"
    picture.write_bytes(next(photos.iterdir()).read_bytes())
    before = picture.read_bytes()
    for option in ("--json", "--stats"):
        assert "1.png: is named like a pic" in mistake(*UNTRAINED, "--input", picture, "--no-draw", option, picture)
    assert picture.read_bytes() == before
    (tmp_path / "w.pdparams").write_text("weights")
    arguments = ("--weights", tmp_path / "w.pdparams", "--input", picture, "--json", tmp_path / "w.pdparams")
    assert "w.pdparams: is read too" in mistake(*arguments)
    both = ("--json", tmp_path / "a.json", "--stats", tmp_path / "a.json")
    assert "give two names" in mistake(*UNTRAINED, "--input", picture, *both)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "w.pdparams"]


@pytest.fixture(scope="module")
def bad_weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    predictor = tiny.tiny_predictor()
    network = untrained_network(predictor.config, 0)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    checkpoint = Checkpoint(weights, predictor.classes, predictor.config.name)
    save_checkpoint(folder / "complete.pdparams", checkpoint)
    complete = (folder / "complete.pdparams").read_bytes()
    (folder / "cut.pdparams").write_bytes(complete[: len(complete) // 2])
    (folder / "text.pdparams").write_text("<html>404 Not Found</html>\n")
    with zipfile.ZipFile(folder / "zipped.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    (folder / "foreign.pth").write_bytes(pickle.dumps({"state_dict": {"a": np.zeros(3)}, "meta": {}}))
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none.pdparams", "--weights"),
        ("cut.pdparams", "damaged or incomplete"),
        ("text.pdparams", ""),
        ("foreign.pth", "convert"),
        ("zipped.pth", "convert"),
    ],
)
def test_weights_that_are_no_checkpoint(photos, bad_weights, name, expected):
    message = mistake(*tiny.OPTIONS, "--input", photos, "--no-draw", "--weights", bad_weights / name)
    assert str(bad_weights / name) in message
    assert expected in message


def test_weights_that_do_not_fit(photos, bad_weights):
    message = mistake("--config=3", "--input", photos, "--no-draw", "--weights", bad_weights / "complete.pdparams")
    assert "solov2_light_448_r18_fpn_8gpu_3x" in message
    assert "other shape" in message
    done = demo(*tiny.OPTIONS, "--input", photos, "--no-draw", "--weights", bad_weights / "complete.pdparams")
    assert (done.returncode, done.stderr) == (0, "")
    assert "UNTRAINED" not in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process")
@pytest.mark.parametrize("threads", [0, 4])
def test_ctrl_c_ends_the_program_at_once(tmp_path, threads):
    source, drawn = tmp_path / "source", tmp_path / "drawn"
    source.mkdir()
    drawn.mkdir()
    picture = source / "0.png"
    write_image(picture, tiny.scene(0, 600, 800))
    for number in range(1, 400):
        (source / f"{number}.png").symlink_to(picture)
    files = "--input", source, "--output", drawn, "--json", tmp_path / "rows.json"
    command = python_command(DEMO, *UNTRAINED, *files, f"--threads={threads}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while len(list(drawn.glob("[!.]*"))) < 5:
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended by itself with {process.wait(0.02)}")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        seconds = time.monotonic() - start
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert stderr == "interrupted\n"
    assert seconds < 5  # half a second on an idle machine
    assert 5 <= len(find_images([drawn])) < 400
    assert all(read_image(path).shape == (600, 800, 3) for path in find_images([drawn]))
    found = Counter(row["image_id"] for row in json.loads((tmp_path / "rows.json").read_text()))
    assert 1 <= len(found) <= len(find_images([drawn]))
    assert len(set(found.values())) == 1, "the same picture has all of its rows each time"
