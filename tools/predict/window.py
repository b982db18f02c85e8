"""Show a picture on the screen: in a notebook, or in a window of OpenCV."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from config.errors import InputError
from data.images import encode_image

TITLE = "instances"
_SAVE = "write the drawing to a file with save"
_POLL = 50  # milliseconds between two looks at the window


def show_image(image: np.ndarray) -> None:
    """Show a picture, uint8 [H, W, 3] RGB: below the cell of a notebook, or in a window until a key closes it.

    Raises InputError if there is no display, or if OpenCV is built without windows.
    """
    if _in_notebook():
        from IPython.display import Image, display

        display(Image(data=encode_image(Path("drawing.png"), image)))
        return
    # OpenCV ends the process if it finds no display.
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError(f"show: there is no display (DISPLAY is not set); {_SAVE}")
    try:
        cv2.imshow(TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        while cv2.waitKey(_POLL) < 0 and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) > 0:
            pass
        cv2.destroyAllWindows()
    except cv2.error as error:
        reason = "show: this OpenCV has no windows (opencv-python-headless has none); install opencv-python"
        raise InputError(f"{reason}, or {_SAVE}") from error


def _in_notebook() -> bool:
    """Return whether the program runs in a kernel that displays pictures, such as Jupyter's."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
