"""Resize, crop, flip and turn samples: picture, masks and boxes together. Nothing here is random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from data.samples import MaskWindow, Sample


class Window(NamedTuple):
    """A part of a picture in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


def select(sample: Sample, kept: Sequence[int] | np.ndarray) -> Sample:
    """Return the sample with only the instances at the indices `kept`, in that order."""
    kept = np.asarray(kept, np.int64)
    return replace(
        sample,
        gt_masks=tuple(sample.gt_masks[index] for index in kept),
        gt_boxes=sample.gt_boxes[kept],
        gt_classes=sample.gt_classes[kept],
    )


def select_present(sample: Sample) -> Sample:
    """Return the sample without instances whose mask or box is empty."""
    sides = sample.gt_boxes[:, 2:] - sample.gt_boxes[:, :2]
    has_mask = np.array([mask.pixels.size > 0 for mask in sample.gt_masks], bool)
    return select(sample, np.flatnonzero(has_mask & (sides > 0).all(axis=1)))


def resize(sample: Sample, *, height: int, width: int) -> Sample:
    """Scale a sample to this size: the picture linearly, masks by nearest neighbour.

    The masks equal `cv2.resize(full_mask, (width, height), interpolation=cv2.INTER_NEAREST)` bit for bit, although only
    the pixels of their windows are computed. Instances that keep no pixel are dropped.
    """
    return resize_to(sample, cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR))


def resize_to(sample: Sample, image: np.ndarray) -> Sample:
    """Replace the picture by `image`, the same picture at another size, and scale the annotations as `resize` does."""
    (old_height, old_width), (height, width) = sample.image.shape[:2], image.shape[:2]
    rows, columns = _nearest_indices(old_height, height), _nearest_indices(old_width, width)
    grows = height >= old_height and width >= old_width
    masks = tuple(_resize_mask(mask, rows, columns, grows) for mask in sample.gt_masks)
    scales = np.float32([width / old_width, height / old_height] * 2)
    borders = np.float32([0, 0, sample.border, sample.border])
    limits = np.float32([width, height] * 2) + borders * np.maximum(1 - scales, 0)
    boxes = np.minimum((sample.gt_boxes - borders) * scales + borders, limits)  # rounding may exceed it slightly
    return select_present(replace(sample, image=image, gt_masks=masks, gt_boxes=boxes))


def crop(sample: Sample, window: Window, *, min_visible: float = 0.0) -> Sample:
    """Cut out a window, which must lie within the picture.

    Boxes are clipped. Instances with no pixel inside, or less than the share `min_visible` of them, are dropped.
    """
    masks = tuple(_crop_mask(mask, window) for mask in sample.gt_masks)
    limits = np.float32([window.right - window.left, window.bottom - window.top] * 2)
    boxes = sample.gt_boxes - np.float32([window.left, window.top] * 2)
    cropped = replace(
        sample,
        image=np.ascontiguousarray(sample.image[window.top : window.bottom, window.left : window.right]),
        gt_masks=masks,
        gt_boxes=np.clip(boxes, 0, limits),
    )
    return select_present(select(cropped, visible_indices(masks, sample.gt_masks, min_visible)))


def visible_indices(masks: Sequence[MaskWindow], originals: Sequence[MaskWindow], share: float) -> np.ndarray:
    """Return the indices of masks that have at least this share of the pixels of their originals: int64 [m]."""
    if not share:
        return np.arange(len(masks))
    pairs = enumerate(zip(masks, originals))
    return np.array([i for i, (mask, old) in pairs if mask is old or mask.area >= share * old.area], np.int64)


def flip(sample: Sample) -> Sample:
    """Flip a sample horizontally."""
    width = sample.image.shape[1]
    boxes = sample.gt_boxes[:, [2, 1, 0, 3]]
    boxes[:, 0::2] = width - boxes[:, 0::2]
    masks = (MaskWindow(m.top, width - m.right, np.ascontiguousarray(m.pixels[:, ::-1])) for m in sample.gt_masks)
    return replace(sample, image=cv2.flip(sample.image, 1), gt_masks=tuple(masks), gt_boxes=boxes)


def flip_vertical(sample: Sample) -> Sample:
    """Flip a sample vertically."""
    height = sample.image.shape[0]
    boxes = sample.gt_boxes[:, [0, 3, 2, 1]]
    boxes[:, 1::2] = height - boxes[:, 1::2]
    masks = (MaskWindow(height - m.bottom, m.left, np.ascontiguousarray(m.pixels[::-1])) for m in sample.gt_masks)
    return replace(sample, image=cv2.flip(sample.image, 0), gt_masks=tuple(masks), gt_boxes=boxes)


def turn(sample: Sample) -> Sample:
    """Turn a sample by 90 degrees counterclockwise, as `np.rot90`: the right side comes to the top."""
    width = sample.image.shape[1]
    boxes = sample.gt_boxes[:, [1, 2, 3, 0]]
    boxes[:, 1::2] = width - boxes[:, 1::2]
    masks = (MaskWindow(width - m.right, m.top, np.ascontiguousarray(np.rot90(m.pixels))) for m in sample.gt_masks)
    image = cv2.rotate(sample.image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return replace(sample, image=image, gt_masks=tuple(masks), gt_boxes=boxes)


def _nearest_indices(length: int, new_length: int) -> np.ndarray:
    """Return the source index of every target index, int32 [new_length], non-decreasing.

    OpenCV resizes the indices themselves, because its rounding differs between versions.
    """
    indices = np.arange(length, dtype=np.int32)[None]
    return cv2.resize(indices, (new_length, 1), interpolation=cv2.INTER_NEAREST)[0]


def _resize_mask(mask: MaskWindow, rows: np.ndarray, columns: np.ndarray, grows: bool) -> MaskWindow:
    top, bottom = map(int, np.searchsorted(rows, (mask.top, mask.bottom)))
    left, right = map(int, np.searchsorted(columns, (mask.left, mask.right)))
    narrow = mask.pixels.take(columns[left:right] - mask.left, axis=1)
    pixels = narrow.take(rows[top:bottom] - mask.top, axis=0)
    # An enlarged mask keeps all of its pixels, so its window stays tight.
    return MaskWindow(top, left, pixels) if grows else MaskWindow.from_full(pixels, top, left)


def _crop_mask(mask: MaskWindow, window: Window) -> MaskWindow:
    in_rows = window.top <= mask.top and mask.bottom <= window.bottom
    if in_rows and window.left <= mask.left and mask.right <= window.right:
        return MaskWindow(mask.top - window.top, mask.left - window.left, mask.pixels)
    top, bottom = max(mask.top, window.top), min(mask.bottom, window.bottom)
    left, right = max(mask.left, window.left), min(mask.right, window.right)
    # Without overlap `bottom` < `top`; clamped, because a negative slice end would count from the end of the array.
    rows = slice(top - mask.top, max(bottom, top) - mask.top)
    columns = slice(left - mask.left, max(right, left) - mask.left)
    return MaskWindow.from_full(mask.pixels[rows, columns], top - window.top, left - window.left)


def shrink(image: np.ndarray, longest_side: int) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], in a size of at most `longest_side` pixels."""
    factor = longest_side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
