"""Drawings on the screen: in a notebook, in a window, and one error where neither is possible."""

from __future__ import annotations

import sys
from io import BytesIO
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from config.errors import InputError
from tools.predict.instances import Instances
from tools.predict.window import show_image

IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
NOBODY = Instances.from_masks(np.zeros((0, 6, 8), bool), [], [], ("cat",), (1,))


@pytest.fixture(autouse=True)
def _without_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


def test_a_notebook_displays_the_picture(monkeypatch):
    shown = []
    package = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(Image=dict, display=shown.append))
    NOBODY.show(IMAGE)
    (content,) = shown
    assert np.array_equal(np.asarray(Image.open(BytesIO(content["data"]))), IMAGE)
    package.get_ipython = lambda: None  # imported, but this is no notebook
    with pytest.raises(InputError, match="no display"):
        show_image(IMAGE)


def test_a_window_stays_until_a_key_is_pressed(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    shown, keys = [], iter([-1, -1, 27])
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    NOBODY.show(IMAGE)
    assert np.array_equal(shown[0], IMAGE[..., ::-1]) and shown[1:] == ["closed"]
    assert not list(keys)


def test_no_display_and_no_windows_are_one_clear_error(monkeypatch):
    with pytest.raises(InputError, match="no display .*save"):
        show_image(IMAGE)

    def imshow(*_):
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", imshow)
    with pytest.raises(InputError, match="install opencv-python, or .*save") as error:
        show_image(IMAGE)
    assert "\n" not in str(error.value)
