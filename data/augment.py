"""Augment a training sample: mix, distort colours, crop, resize, flip and turn.

All randomness comes from the generator passed in; the same sample, config and seed give the same result.

    second = load(other) if needs_second(config.augment, rng) else None
    sample = augment(sample, second, augment=config.augment, data=config.data, rng=rng)
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from config.base import AugmentConfig, DataConfig
from data.colour import distort_colours, draw_distortion
from data.geometry import Window, crop, flip, flip_vertical, resize_to, select, turn
from data.mixing import copy_paste, cutmix, mixup
from data.preprocess import resize_image
from data.samples import Sample

CROP_TRIES = 50
CROP_SCALES = (0.3, 1.0)  # square root of crop area / picture area
CROP_ASPECTS = (0.5, 2.0)  # width / height, relative to the picture's
NO_CROP = math.inf
CROP_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, NO_CROP)  # minimum IoU of the crop with at least one box


def needs_second(config: AugmentConfig, rng: np.random.Generator) -> bool:
    """Draw whether a picture is mixed with a second one. If so, the caller loads it and passes it to `augment`."""
    return rng.random() < config.copy_paste + config.mixup + config.cutmix


def augment(
    sample: Sample,
    second: Sample | None,
    *,
    augment: AugmentConfig,
    data: DataConfig,
    rng: np.random.Generator,
) -> Sample:
    """Augment a sample as configured and scale it to the size of the network's input.

    second: a sample to mix in by copy-paste, MixUp or CutMix, drawn in proportion to their probabilities. Pass it if
        and only if `needs_second` returned true, so that each happens with its configured probability.
    Returns a sample whose picture is not yet normalised or padded. It has no instances if the crop or the scaling
    removed them all.
    """
    if second is not None:
        sample = _mix(sample, second, augment, rng)
    distortion = draw_distortion(augment, rng)
    if rng.random() < augment.crop:
        sample = random_crop(sample, rng)
    sample = replace(sample, image=distort_colours(sample.image, distortion))  # after the crop, on fewer pixels
    short_side = int(rng.choice(augment.short_sides or [data.short_side]))
    sample = resize_to(sample, resize_image(sample.image, replace(data, short_side=short_side)))
    for probability, change in ((augment.flip, flip), (augment.flip_vertical, flip_vertical), (augment.turn, turn)):
        if rng.random() < probability:
            sample = change(sample)
    return sample


def random_crop(sample: Sample, rng: np.random.Generator) -> Sample:
    """Cut out a random window with at least one instance, as in SSD (Liu et al. 2016) and PaddleDetection.

    The limits CROP_OVERLAPS are tried in random order, each on CROP_TRIES random windows of its own, until a window
    meets one; NO_CROP returns the sample unchanged. Instances whose box centre lies in the window are kept and clipped.
    A sample without instances is not cropped.
    """
    if not len(sample):
        return sample
    height, width = sample.image.shape[:2]
    for limit in rng.permutation(CROP_OVERLAPS):
        if limit == NO_CROP:
            return sample
        windows = _draw_windows(height, width, rng)
        best_overlaps = _ious(windows, sample.gt_boxes).max(axis=1)
        holds_centre = _hold_centres(windows, sample.gt_boxes)
        for index in np.flatnonzero((best_overlaps >= limit) & holds_centre.any(axis=1)):
            cropped = crop(select(sample, np.flatnonzero(holds_centre[index])), Window(*windows[index].tolist()))
            if len(cropped):
                return cropped
    return sample


def _mix(sample: Sample, second: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    probabilities = np.array([config.copy_paste, config.mixup, config.cutmix])
    method = rng.choice(("copy_paste", "mixup", "cutmix"), p=probabilities / probabilities.sum())
    if method == "copy_paste":
        return copy_paste(sample, second, rng=rng)
    if method == "mixup":
        return mixup(sample, second, config=config, rng=rng)
    return cutmix(sample, second, config=config, rng=rng)


def _draw_windows(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw crop windows of at least one pixel: int64 [CROP_TRIES, 4] of top, left, bottom, right."""
    scales = rng.uniform(*CROP_SCALES, CROP_TRIES)
    # Limited so that no side of a window is longer than the picture's.
    aspects = rng.uniform(np.maximum(CROP_ASPECTS[0], scales**2), np.minimum(CROP_ASPECTS[1], scales**-2))
    heights = np.clip(height * scales / np.sqrt(aspects), 1, height).astype(np.int64)
    widths = np.clip(width * scales * np.sqrt(aspects), 1, width).astype(np.int64)
    tops = rng.integers(height - heights, endpoint=True)
    lefts = rng.integers(width - widths, endpoint=True)
    return np.stack([tops, lefts, tops + heights, lefts + widths], axis=1)


def _ious(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every window [w, 4] and box [n, 4]: [w, n]."""
    x1, y1, x2, y2 = boxes.T
    top, left, bottom, right = windows.T[..., None]
    widths = np.minimum(x2, right) - np.maximum(x1, left)
    heights = np.minimum(y2, bottom) - np.maximum(y1, top)
    shared = np.maximum(widths, 0) * np.maximum(heights, 0)
    return shared / ((right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - shared)


def _hold_centres(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each window [w, 4] contains the centre of each box [n, 4]: bool [w, n]."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    top, left, bottom, right = windows.T[..., None]
    return (top < y) & (y < bottom) & (left < x) & (x < right)
