"""Test reading of videos: files, damaged files, local servers instead of network cameras, a replaced camera."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock, patch

import cv2
import numpy as np
import pytest

from data.images import ImageError
from data.video_output import VideoOutput
from data.videos import USUAL_RATE, Video
from tests.support import tiny
from tests.support.video_servers import serve_motion_jpeg, serve_rtsp

FRAMES = [tiny.scene(number, 96, 128) for number in range(9)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "clip.avi"
    with VideoOutput(path, rate=5) as output:
        for frame in FRAMES:
            output.add(frame)
    return path


def numbers_of(video: Video) -> list[int]:
    return [frame.number for frame in video.open().frames()]


def difference(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(int) - other).mean())


def assert_shows(images: list[np.ndarray], frames: list[np.ndarray]) -> None:
    """Assert that each picture is a compressed copy of its frame."""
    assert len(images) == len(frames)
    for image, frame in zip(images, frames):
        closest = min(range(len(FRAMES)), key=lambda number: difference(image, FRAMES[number]))
        assert image.dtype == np.uint8 and image.shape == frame.shape
        assert difference(frame, FRAMES[closest]) == 0


def test_a_file_has_its_frames_times_and_rate(clip):
    reader = Video(str(clip)).open()
    assert (reader.rate, reader.length, reader.count, reader.is_live) == (5, 9, 9, False)
    frames = list(reader.frames())
    assert_shows([frame.image for frame in frames], FRAMES)
    assert [frame.number for frame in frames] == list(range(9))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(9) / 5, atol=1e-3)
    assert not reader.is_cut_off(9)


@pytest.mark.parametrize("library", ["OpenCV", "PyAV"])
@pytest.mark.parametrize("every", [1, 2, 4, 20])
def test_one_of_n_frames_is_read_by_both_libraries(clip, library, every):
    if library == "PyAV":
        pytest.importorskip("av")
    with patch("data.videos._OpenCVFrames.__init__", side_effect=_closed()) if library == "PyAV" else patch.dict({}):
        reader = Video(str(clip), every).open()
        assert reader.count == len(range(0, 9, every))
        frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(0, 9, every))
    assert_shows([frame.image for frame in frames], FRAMES[::every])
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(0, 9, every) / 5, atol=1e-3)


def _closed() -> Exception:
    from data.videos import _ClosedError

    return _ClosedError()


@pytest.mark.parametrize("limit, count", [(1, 1), (3, 3), (50, 5)])
def test_the_wanted_number_is_counted_after_every(clip, limit, count):
    assert Video(str(clip), 2, limit).open().count == count


@pytest.mark.parametrize("name", ["%03d.avi", "file:a.avi", "7.avi"])
def test_a_name_that_looks_like_a_pattern_or_a_protocol_is_a_name(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip.read_bytes())
    assert numbers_of(Video(name)) == list(range(9))
    if find_spec("av"):
        monkeypatch.setattr("data.videos._OpenCVFrames.__init__", Mock(side_effect=_closed()))
        assert numbers_of(Video(name)) == list(range(9))


@pytest.mark.parametrize("content, reason", [(b"", "an empty file"), (b"no video" * 99, "cannot be opened as a video")])
def test_files_that_are_no_videos(tmp_path, content, reason, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        Video(str(path)).open()
    assert capfd.readouterr().err == ""


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "no.mp4", tmp_path):
        with pytest.raises(ImageError, match=str(path)):
            Video(str(path)).open()


def test_a_file_that_was_cut_off_is_noticed(clip, tmp_path):
    path = tmp_path / "cut.avi"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    reader = Video(str(path)).open()
    read = len(list(reader.frames()))
    assert 0 < read < 9
    if reader.length is not None:  # the header is at the begin, and states all frames
        assert reader.is_cut_off(read)


@pytest.mark.parametrize("serve", [serve_motion_jpeg, serve_rtsp])
def test_streams_of_network_cameras(serve):
    with serve(FRAMES) as address:
        reader = Video(address).open()
        assert reader.is_live and reader.count is None
        assert_shows([frame.image for frame in reader.frames()], FRAMES)


def test_a_server_that_is_gone_is_named_without_its_password():
    with serve_rtsp(FRAMES) as address:
        pass
    with pytest.raises(ImageError, match="cannot be opened as a video; check the address") as caught:
        Video(address).open()
    assert "secret" not in str(caught.value) and "/door" in str(caught.value)


class Camera:
    """A camera as `cv2.VideoCapture` shows it: without a length, and with a rate that means nothing."""

    def __init__(self, number: int) -> None:
        assert number == 7
        self.read_frames = 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(what, 0.0)

    def grab(self) -> bool:
        self.read_frames += 1
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        self.grab()
        return True, FRAMES[(self.read_frames - 1) % len(FRAMES)][..., ::-1]

    def release(self) -> None:
        pass


def test_a_camera_has_no_length_and_the_usual_rate():
    with patch("cv2.VideoCapture", Camera):
        reader = Video("7", 2, 4).open()
        frames = reader.frames()
        images = [next(frames).image for _ in range(4)]
    assert (reader.rate, reader.length, reader.count, reader.is_live) == (USUAL_RATE, None, 4, True)
    assert_shows(images, FRAMES[:8:2])


@pytest.mark.parametrize(
    "address, name, file_name",
    [
        ("0", "camera 0", "camera_0"),
        ("rtsp://me:pass@door:554/stream1?x=1", "rtsp://door:554/stream1?x=1", "stream1"),
        ("rtsp://me:pass@door:554", "rtsp://door:554", "door_554"),
        ("some/clip.mp4", "some/clip.mp4", "some/clip.mp4"),
    ],
)
def test_names(address, name, file_name):
    assert (Video(address).name, str(Video(address).file_name)) == (name, file_name)
