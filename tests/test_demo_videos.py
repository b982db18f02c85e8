"""Test `demo.py` with videos, streams, addresses and lists, as a user runs it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from config.base import PROJECT
from data.images import encode_image, read_image, write_image
from data.video_output import VideoOutput, video_suffix
from data.videos import Video
from demo import main
from tests.support import tiny
from tests.support.http_files import serve
from tests.support.programs import Finished, python_command, run_main
from tests.support.video_servers import serve_rtsp

UNTRAINED = (*tiny.OPTIONS, "--untrained=0")
FRAMES = [tiny.scene(number, 96, 128) for number in range(9)]


def demo(*arguments: object) -> Finished:
    return run_main(main, *UNTRAINED, *arguments)


def write_clip(path: Path, frames: int = 9, rate: float = 10) -> Path:
    with VideoOutput(path, rate=rate) as output:
        for number in range(frames):
            output.add(FRAMES[number % 9])
    return path


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in Video(str(path)).open().frames()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("videos") / "clip.avi")


@pytest.mark.parametrize("threads", [0, 4])
def test_a_video_gives_an_annotated_video_and_lines_with_times(clip, tmp_path, threads):
    rows, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    drawn = tmp_path / "drawn"
    options = ("--json", rows, "--table", table, "--threads", threads)
    done = demo("--input", clip, "--output", drawn, "--every", 2, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 frames, ")
    reader = Video(str(drawn / f"clip{video_suffix()}")).open()
    assert reader.rate == pytest.approx(5)
    images = [frame.image for frame in reader.frames()]
    assert [image.shape for image in images] == [(96, 128, 3)] * 5
    found = lines_of(rows)
    assert {row["frame"] for row in found} == set(range(0, 9, 2))
    assert all(row["seconds"] == pytest.approx(row["frame"] / 10, abs=1e-3) for row in found)
    assert {row["file_name"] for row in found} == {str(clip)}
    assert {row["image_id"] for row in found} == set(range(1, 6))
    with table.open() as stream:
        names = [row["picture"] for row in csv.DictReader(stream)]
    assert names == [f"{clip}:{row['frame']}" for row in found]


def test_the_instances_of_frames_are_those_of_the_same_pictures(clip, tmp_path):
    for number, image in enumerate(frames_of(clip)):
        write_image(tmp_path / "frames" / f"{number}.png", image)
    assert demo("--input", clip, "--no-draw", "--json", tmp_path / "video.jsonl").returncode == 0
    assert demo("--input", tmp_path / "frames", "--no-draw", "--json", tmp_path / "pictures.json").returncode == 0
    of_frames = [(row["frame"], row["segmentation"], row["score"]) for row in lines_of(tmp_path / "video.jsonl")]
    rows = json.loads((tmp_path / "pictures.json").read_text())
    of_pictures = [(int(Path(row["file_name"]).stem), row["segmentation"], row["score"]) for row in rows]
    assert of_frames and of_frames == of_pictures


def test_the_wanted_number_of_frames_ends_a_stream_without_end(tmp_path):
    rows = tmp_path / "rows.jsonl"
    with serve_rtsp(itertools.cycle(FRAMES)) as address:  # a busy network drops some
        done = demo("--input", address, "--max-frames", 3, "--output", tmp_path, "--json", rows)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 frames, ")
    assert (tmp_path / f"door{video_suffix()}").is_file()
    assert "secret" not in rows.read_text() + done.stdout + done.stderr


def test_videos_of_one_name_and_pictures_in_one_run(clip, tmp_path):
    other = write_clip(tmp_path / "clip.avi", frames=2)
    write_image(tmp_path / "clip.png", FRAMES[0])
    done = demo("--input", clip, other, tmp_path / "clip.png", "--output", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 pictures, ")
    counts = [len(frames_of(tmp_path / "drawn" / f"{name}{video_suffix()}")) for name in ("clip", "clip_2")]
    assert counts == [9, 2]
    assert read_image(tmp_path / "drawn" / "clip.png").shape == (96, 128, 3)


def test_damaged_videos_are_named_and_the_others_are_used(clip, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 20)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    done = demo("--input", broken, cut, "--output", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    assert f"skipped {broken}: cannot be opened as a video" in done.stderr
    assert f"{cut}: ends after " in done.stderr + done.stdout
    done = demo("--input", broken, "--no-draw")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("demo.py: error: none of 1 ")


def test_pictures_from_addresses(tmp_path):
    with serve(encode_image(Path("x.png"), FRAMES[0]), "cells.png") as served:
        missing = served.url.replace("cells.png", "no") + ".webp"
        done = demo("--input", served.url, "--output", tmp_path, "--json", tmp_path / "rows.json")
        served.status = 404
        refused = demo("--input", missing, "--no-draw")
    assert done.returncode == 0, done.stderr
    assert read_image(tmp_path / "cells.png").shape == FRAMES[0].shape
    assert {row["file_name"] for row in json.loads((tmp_path / "rows.json").read_text())} == {served.url}
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"skipped {missing}: cannot be fetched (the server answered 404")


def test_a_list_on_standard_input(tmp_path, monkeypatch):
    names = [tmp_path / "a.png", tmp_path / "ü.png"]
    for name in names:
        write_image(name, FRAMES[0])
    content = b"".join(os.fsencode(name) + b"\n" for name in names)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    done = demo("--input", "-", "--no-draw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 pictures, ")


@pytest.mark.parametrize("option", ["--labelme", "--yolo", "--coco", "--label-masks"])
def test_annotations_need_pictures_as_files(clip, tmp_path, option):
    done = demo("--input", clip, "--no-draw", option, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == (
        f"demo.py: error: {option}: is for pictures, and {clip} is none; save frames of the video as pictures\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_the_user_is_not_overwritten(clip, tmp_path):
    target = tmp_path / f"clip{video_suffix()}"
    target.write_text("a file of the user")
    done = demo("--input", clip, "--output", tmp_path)
    assert done.returncode == 2
    assert "not written by this project" in done.stderr
    assert target.read_text() == "a file of the user"


def test_ctrl_c_keeps_the_frames_until_then(tmp_path):
    clip = write_clip(tmp_path / "long.avi", frames=3000)
    drawn, rows = tmp_path / "drawn", tmp_path / "rows.jsonl"
    command = python_command(PROJECT / "demo.py", *UNTRAINED, "--input", clip, "--output", drawn, "--json", rows)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not any(path.stat().st_size > 10_000 for path in drawn.glob(f".*{video_suffix()}")):
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended by itself with {process.wait(0.02)}")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (130, "interrupted\n")
    frames = len(frames_of(drawn / f"long{video_suffix()}"))
    assert 1 <= frames < 3000
    assert [path.name for path in drawn.iterdir() if path.name != ".written"] == [f"long{video_suffix()}"]
    assert max(row["frame"] for row in lines_of(rows)) <= frames + 4


@pytest.mark.parametrize("option", ["--every", "--max-frames"])
def test_options_of_videos_are_refused_without_effect(clip, tmp_path, option):
    write_image(tmp_path / "a.png", FRAMES[0])
    done = demo("--input", tmp_path / "a.png", "--no-draw", option, 2)
    assert done.returncode == 2
    assert f"{option}: is for videos, and none of the inputs is one" in done.stderr
    done = demo("--input", clip, "--no-draw", option, 0)
    assert done.returncode == 2
    assert f"{option}: '0': must be an integer" in done.stderr


def test_the_password_of_a_picture_is_in_no_message_or_file(tmp_path):
    rows = tmp_path / "rows.json"
    with serve(encode_image(Path("x.png"), FRAMES[0]), "cells.png") as served:
        done = demo("--input", served.url.replace("://", "://me:secret@"), "--no-draw", "--json", rows)
        served.status = 403
        refused = demo("--input", served.url.replace("://", "://me:secret@"), "--no-draw")
    assert (done.returncode, refused.returncode) == (0, 2)
    assert {row["file_name"] for row in json.loads(rows.read_text())} == {served.url}
    assert "secret" not in rows.read_text() + done.stdout + done.stderr + refused.stderr
