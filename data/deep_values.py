"""Convert values of 16 bits to 8 bits as OpenCV does it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Return a picture, uint16 [H, W] or [H, W, 3], as uint8 of the same shape."""
    return _table(values.ndim)[values]


@lru_cache(maxsize=2)
def _table(dimensions: int) -> np.ndarray:
    """Return what OpenCV makes of each value in a grey (2) or colour (3) TIFF file: uint8 [65536].

    Its versions divide by 256 or by 257.
    """
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    picture = values if dimensions == 2 else np.repeat(values[..., None], 3, axis=2)
    decoded = cv2.imdecode(cv2.imencode(".tif", picture)[1], cv2.IMREAD_COLOR)
    return np.asarray(decoded)[..., 0].ravel()
