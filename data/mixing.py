"""Mix two samples into one with the instances of both: copy-paste, MixUp and CutMix."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from config.base import AugmentConfig
from data.geometry import Window, crop, flip, resize, select, select_present, visible_indices
from data.samples import MaskWindow, Sample

MIN_VISIBLE = 0.1  # a covered or cut instance with a smaller share of its pixels left is dropped
MAX_PIXELS = 2**28  # of a scaled or padded picture; beyond it two very long pictures are not mixed
PASTE_SCALES = (0.1, 2.0)  # large-scale jitter of Ghiasi et al. 2021


def copy_paste(sample: Sample, second: Sample, *, rng: np.random.Generator) -> Sample:
    """Paste at least one random instance of the second sample onto the first (Ghiasi et al. 2021).

    The second picture is flipped with probability 0.5, scaled by a factor drawn from PASTE_SCALES (1: it just fits into
    the first) and placed randomly. Unlike in the paper the first picture keeps its size; the result is cropped and
    scaled later.
    """
    if not len(second):
        return sample
    chosen = rng.choice(len(second), rng.integers(1, len(second), endpoint=True), replace=False)
    second = select(second, np.sort(chosen))
    if rng.random() < 0.5:
        second = flip(second)
    (height, width), (second_height, second_width) = sample.image.shape[:2], second.image.shape[:2]
    factor = rng.uniform(*PASTE_SCALES) * min(height / second_height, width / second_width)
    second = resize(second, height=max(round(second_height * factor), 1), width=max(round(second_width * factor), 1))
    top, second_top, shared_height = _draw_offset(height, second.image.shape[0], rng)
    left, second_left, shared_width = _draw_offset(width, second.image.shape[1], rng)
    shared = Window(second_top, second_left, second_top + shared_height, second_left + shared_width)
    patch = crop(second, shared, min_visible=MIN_VISIBLE)
    covers = np.zeros(patch.image.shape[:2], np.uint8)
    for mask in patch.gt_masks:
        covers[mask.top : mask.bottom, mask.left : mask.right] |= mask.pixels
    return _paste(sample, patch, top=top, left=left, covers=covers)


def mixup(sample: Sample, second: Sample, *, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Blend two pictures, the first with a weight from Beta(mix_beta, mix_beta), and keep all instances of both.

    MixUp (Zhang et al. 2018) for detection (Zhang et al. 2019): both pictures keep their size, are aligned at the top
    left and padded with black.
    """
    share = rng.beta(config.mix_beta, config.mix_beta)
    height, width = np.maximum(sample.image.shape[:2], second.image.shape[:2]).tolist()
    if height * width > MAX_PIXELS:
        return sample
    first, other = _pad(sample.image, height, width), _pad(second.image, height, width)
    return _join(sample, second, cv2.addWeighted(first, share, other, 1 - share, 0))


def cutmix(sample: Sample, second: Sample, *, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Replace a rectangle by the same one of the second picture, scaled to cover the first (Yun et al. 2019).

    The first picture's share of the area is drawn from Beta(mix_beta, mix_beta), and the centre of the rectangle
    uniformly; the part outside of the picture is cut off. Instances are cut at its sides.
    """
    height, width = sample.image.shape[:2]
    side = math.sqrt(1 - rng.beta(config.mix_beta, config.mix_beta))
    top, bottom = _draw_interval(height, side, rng)
    left, right = _draw_interval(width, side, rng)
    if top == bottom or left == right:
        return sample
    second_height, second_width = second.image.shape[:2]
    factor = max(height / second_height, width / second_width)
    second_height = max(round(second_height * factor), height)
    second_width = max(round(second_width * factor), width)
    if second_height * second_width > MAX_PIXELS:
        return sample
    second = resize(second, height=second_height, width=second_width)
    patch = crop(second, Window(top, left, bottom, right), min_visible=MIN_VISIBLE)
    return _paste(sample, patch, top=top, left=left, covers=np.ones(patch.image.shape[:2], np.uint8))


def _draw_offset(length: int, second_length: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Place the shorter of two lengths randomly inside the longer; returns the overlap's start in each, and length."""
    offset = int(rng.integers(abs(length - second_length), endpoint=True))
    shared = min(length, second_length)
    return (offset, 0, shared) if second_length <= length else (0, offset, shared)


def _draw_interval(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw an interval with a random centre and this share of a length, clipped to 0..length."""
    centre, half = rng.uniform(0, length), length * share / 2
    return max(round(centre - half), 0), min(round(centre + half), length)


def _paste(sample: Sample, patch: Sample, *, top: int, left: int, covers: np.ndarray) -> Sample:
    """Paste a patch at (top, left), within the picture, where `covers`, uint8 [h, w], is 1."""
    rows, columns = slice(top, top + covers.shape[0]), slice(left, left + covers.shape[1])
    image = sample.image.copy()
    image[rows, columns] = cv2.copyTo(patch.image, covers, image[rows, columns])
    masks = tuple(mask._replace(top=mask.top + top, left=mask.left + left) for mask in patch.gt_masks)
    moved = replace(patch, gt_masks=masks, gt_boxes=patch.gt_boxes + np.float32([left, top] * 2))
    return _join(_hide_covered(sample, covers, top, left), moved, image)


def _hide_covered(sample: Sample, covers: np.ndarray, top: int, left: int) -> Sample:
    """Remove the covered pixels from all masks. Instances that lose some get the box of the rest, or are dropped."""
    masks = tuple(_remove_covered(mask, covers, top, left) for mask in sample.gt_masks)
    boxes = sample.gt_boxes.copy()
    for box, mask, original in zip(boxes, masks, sample.gt_masks):
        if mask is not original:
            box[:] = mask.left, mask.top, mask.right, mask.bottom
    kept = visible_indices(masks, sample.gt_masks, MIN_VISIBLE)
    return select_present(select(replace(sample, gt_masks=masks, gt_boxes=boxes), kept))


def _remove_covered(mask: MaskWindow, covers: np.ndarray, top: int, left: int) -> MaskWindow:
    """Return the mask without its covered pixels, or the mask itself if none is covered."""
    y1, y2 = max(mask.top, top), min(mask.bottom, top + covers.shape[0])
    x1, x2 = max(mask.left, left), min(mask.right, left + covers.shape[1])
    if y1 >= y2 or x1 >= x2:
        return mask
    covered = covers[y1 - top : y2 - top, x1 - left : x2 - left]
    part = slice(y1 - mask.top, y2 - mask.top), slice(x1 - mask.left, x2 - mask.left)
    if not (mask.pixels[part] & covered).any():
        return mask
    pixels = mask.pixels.copy()
    pixels[part] &= 1 - covered
    return MaskWindow.from_full(pixels, mask.top, mask.left)


def _join(sample: Sample, second: Sample, image: np.ndarray) -> Sample:
    return Sample(
        image=image,
        gt_masks=sample.gt_masks + second.gt_masks,
        gt_boxes=np.concatenate([sample.gt_boxes, second.gt_boxes]),
        gt_classes=np.concatenate([sample.gt_classes, second.gt_classes]),
        name=f"{sample.name} + {second.name}",
        border=sample.border,
    )


def _pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    bottom, right = height - image.shape[0], width - image.shape[1]
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
