"""Resize, normalise and pad pictures for the network."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from config.base import DataConfig


def preprocess(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """Resize and normalise a picture, uint8 [H, W, 3] RGB, without padding: float32 [h, w, 3].

    Size and sampling follow mmcv (the original SOLO), PaddleDetection or detectron2, depending on the config.
    """
    if config.normalize_first:
        prepared = resize_image(normalize(image, config), config, within=config.fixed_size)
    else:
        prepared = normalize(resize_image(image, config, within=config.fixed_size), config)
    return prepared[..., ::-1] if config.bgr else prepared


def normalize(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return (value - mean) / std of uint8 [H, W, 3] as float32; a look-up table is faster than the arithmetic."""
    return cv2.LUT(image, _normalization_table(config)[None])


def _normalization_table(config: DataConfig) -> np.ndarray:
    """Return the normalised value of each byte and channel, float32 [256, 3].

    The values equal those of the original program to the last bit: a difference there changes gradients of single
    offsets of deformable layers by 1 %.
    """
    values = np.arange(256, dtype=np.float32)[:, None]
    if config.normalize_first:  # PaddleDetection scales to 0..1 first and keeps mean and std in float64
        scaled = values * np.float32(1 / 255)
        centred = (scaled - np.array(config.mean) / 255).astype(np.float32)
        return (centred / (np.array(config.std) / 255)).astype(np.float32)
    return (values - np.float32(config.mean)) / np.float32(config.std)


def pad_to_batch(images: Sequence[np.ndarray], size_divisor: int, fixed_size: Sequence[int] = ()) -> np.ndarray:
    """Combine float32 [h, w, 3] pictures to a batch [N, 3, H, W], zero-padded at the bottom and right.

    H and W are `fixed_size`, which no picture may exceed, or else the next multiples of `size_divisor`.
    """
    batch = _empty_batch(images, size_divisor, fixed_size)
    for padded, image in zip(batch, images):
        padded[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def normalize_batch(images: Sequence[np.ndarray], config: DataConfig) -> np.ndarray:
    """Normalise uint8 [h, w, 3] RGB pictures into a zero-padded batch, float32 [N, 3, H, W], in the config's order.

    The result equals `pad_to_batch` of normalised pictures, but each value is written only once.
    """
    tables = [np.ascontiguousarray(table) for table in _normalization_table(config).T]
    batch = _empty_batch(images, config.size_divisor)
    for padded, image in zip(batch, images):
        for plane, channel, table in zip(padded[::-1] if config.bgr else padded, cv2.split(image), tables):
            cv2.LUT(channel, table, dst=plane[: image.shape[0], : image.shape[1]])
    return batch


def _empty_batch(images: Sequence[np.ndarray], size_divisor: int, fixed_size: Sequence[int] = ()) -> np.ndarray:
    largest = np.max([image.shape[:2] for image in images], axis=0).tolist()
    size = fixed_size or padded_size(*largest, divisor=size_divisor)
    return np.zeros((len(images), 3, *size), np.float32)


def padded_size(height: int, width: int, *, divisor: int) -> tuple[int, int]:
    """Return (height, width) of a batch with these largest sides: the next multiples of `divisor`."""
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def resized_size(height: int, width: int, *, short_side: int, long_side: int) -> tuple[int, int]:
    """Return (height, width) of a picture scaled until one side reaches its limit, rounded as in mmcv; at least 1."""
    return _rounded_size(height, width, _resize_factor(height, width, short_side, long_side))


def fitted_size(height: int, width: int, within: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of a picture scaled to fit into the size `within`, rounded in the same way."""
    return _rounded_size(height, width, min(within[0] / height, within[1] / width))


def _rounded_size(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_image(image: np.ndarray, config: DataConfig, within: Sequence[int] = ()) -> np.ndarray:
    """Scale a picture [H, W, 3] to the size of the network's input, without padding: [h, w, 3] of the same dtype.

    image: uint8, or float32 unless `resize_by` is "pillow".
    within: (height, width) that the picture is fitted into. If empty, the config's sides are the limits.
    """
    height, width = image.shape[:2]
    factor = _factor_of(height, width, config, within)
    if config.resize_by == "factor" and min(height, width) * factor >= 1:
        # With a factor, cv2 rounds the size in the same way but samples at slightly different positions.
        return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    size = _rounded_size(height, width, factor)[::-1]
    if config.resize_by == "pillow":
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def truncated_size(height: int, width: int, config: DataConfig) -> tuple[int, int]:
    """Return (height, width) of a picture within the network's input, truncated as in PaddleDetection 0.5; at least 1.

    That program keeps the size as float32, where 447.99999999999994 is 448.
    """
    factor = _factor_of(height, width, config, config.fixed_size)
    return max(int(np.float32(height * factor)), 1), max(int(np.float32(width * factor)), 1)


def _factor_of(height: int, width: int, config: DataConfig, within: Sequence[int]) -> float:
    if within:
        return min(within[0] / height, within[1] / width)
    return _resize_factor(height, width, config.short_side, config.long_side)


def _resize_factor(height: int, width: int, short_side: int, long_side: int) -> float:
    return min(short_side / min(height, width), long_side / max(height, width))
