"""A picture to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from config.base import DataConfig


def preprocess(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """uint8 [H, W, 3] RGB to float32 [h, w, 3], resized and normalised, not yet padded.

    Sizes and sampling are those of mmcv (the original SOLO) or of PaddleDetection, as the config's fields say.
    """
    table = _normalization_table(config)
    if config.normalize_first:
        return _resize(cv2.LUT(image, table), config)
    return cv2.LUT(_resize(image, config), table)


def pad_to_batch(images: Sequence[np.ndarray], size_divisor: int) -> np.ndarray:
    """float32 [h, w, 3] pictures to [N, 3, H, W], zeros at the bottom and right; H and W divide evenly."""
    height, width = (-(-max(side) // size_divisor) * size_divisor for side in zip(*(im.shape[:2] for im in images)))
    batch = np.zeros((len(images), 3, height, width), dtype=np.float32)
    for padded, image in zip(batch, images):
        padded[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def _resize(image: np.ndarray, config: DataConfig) -> np.ndarray:
    height, width = image.shape[:2]
    factor = min(config.short_side / min(height, width), config.long_side / max(height, width))
    size = max(int(width * factor + 0.5), 1), max(int(height * factor + 0.5), 1)
    if config.resize_by == "factor" and min(height, width) * factor >= 1:
        # The sizes differ at most by rounding; what differs is where a target pixel looks for its value.
        return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _normalization_table(config: DataConfig) -> np.ndarray:
    """(value - mean) / std of every byte and channel, float32 [1, 256, 3]: a look-up is cheaper than the arithmetic."""
    values = np.arange(256, dtype=np.float32)[:, None]
    return ((values - np.float32(config.mean)) / np.float32(config.std))[None]
