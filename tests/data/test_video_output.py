"""Test writing of videos: both formats, frames of other sizes, repeated frames, full disks."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from config.errors import InputError
from data.video_output import VideoOutput, VideoOutputs, video_suffix
from data.videos import Video
from tests.support import tiny

NEEDS_AV = pytest.mark.skipif(find_spec("av") is None, reason="needs PyAV: pip install av")
FRAMES = [tiny.scene(number, 97, 129) for number in range(5)]


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in Video(str(path)).open().frames()]


@pytest.mark.parametrize("suffix", [".avi", pytest.param(".mp4", marks=NEEDS_AV)])
@pytest.mark.parametrize("rate", [10, 29.97])
def test_size_rate_and_content_are_kept(tmp_path, suffix, rate):
    path = tmp_path / "new" / f"clip{suffix}"
    with VideoOutput(path, rate=rate) as output:
        for frame in FRAMES:
            output.add(frame)
        assert not path.exists()
    assert Video(str(path)).open().rate == pytest.approx(rate, abs=0.01)
    images = frames_of(path)
    assert len(images) == len(FRAMES)
    for image, frame in zip(images, FRAMES):
        height, width = (97, 129) if suffix == ".mp4" else (96, 128)  # Motion JPEG has even sides
        assert image.shape == (height, width, 3)
        assert np.abs(image.astype(int) - frame[:height, :width]).mean() < 12


def test_an_error_keeps_the_frames_before_it(tmp_path):
    path = tmp_path / "clip.avi"
    with pytest.raises(ZeroDivisionError), VideoOutput(path, rate=5) as output:
        output.add(FRAMES[0])
        raise ZeroDivisionError
    output.add(FRAMES[0])  # too late
    assert len(frames_of(path)) == 1


def test_no_frames_no_file(tmp_path):
    with VideoOutput(tmp_path / "clip.avi", rate=5):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_other_sizes_are_fitted(tmp_path):
    path = tmp_path / "clip.avi"
    with VideoOutput(path, rate=5) as output:
        for shape in ((40, 60, 3), (80, 60, 3), (20, 20, 3)):
            output.add(np.full(shape, 200, np.uint8))
    images = frames_of(path)
    assert [image.shape for image in images] == [(40, 60, 3)] * 3
    for image, (height, width) in zip(images, ((40, 60), (40, 30), (20, 20))):
        bright = image.mean(axis=2) > 100
        assert bright[: height - 1, : width - 1].all()
        assert not bright[height + 8 :].any() and not bright[:, width + 8 :].any()


def test_slow_frames_are_repeated_to_keep_time(tmp_path):
    path = tmp_path / "clip.avi"
    with VideoOutput(path, rate=10) as output:
        for seconds in (0.0, 0.5, 0.52, 1.0):
            output.add(FRAMES[0], until=seconds)
    assert len(frames_of(path)) == 1 + 4 + 1 + 4


def test_a_new_path_ends_the_video_before_it(tmp_path):
    with VideoOutputs() as outputs:
        outputs.add(tmp_path / "a.avi", FRAMES[0], rate=5)
        outputs.add(tmp_path / "b.avi", FRAMES[1], rate=5)
        assert len(frames_of(tmp_path / "a.avi")) == 1
        outputs.add(tmp_path / "b.avi", FRAMES[2], rate=5)
    assert len(frames_of(tmp_path / "b.avi")) == 2


@pytest.mark.parametrize("suffix", [".avi", pytest.param(".mp4", marks=NEEDS_AV)])
def test_a_full_disk_is_named_and_leaves_no_video(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"clip{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    random = np.random.default_rng(0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(InputError, match=f"{path}: cannot be written"), VideoOutput(path, rate=5) as output:
            for _ in range(20):
                output.add(random.integers(0, 255, (96, 128, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.glob("*")) == []


def test_a_size_that_no_format_takes_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("data.video_output.find_spec", lambda name: None)
    monkeypatch.setattr("data.video_output._opencv_writer", lambda *arguments: _Refusing())
    refused = pytest.raises(InputError, match="cannot write videos of 129 x 97 pixels; pip install av")
    with refused, VideoOutput(tmp_path / "clip.avi", rate=5) as output:
        output.add(FRAMES[0])
    assert list(tmp_path.iterdir()) == []


class _Refusing:
    def isOpened(self) -> bool:  # noqa: N802
        return False


def test_the_suffix_is_one_that_can_be_written(tmp_path):
    path = tmp_path / f"clip{video_suffix()}"
    with VideoOutput(path, rate=5) as output:
        output.add(FRAMES[0])
    assert len(frames_of(path)) == 1
