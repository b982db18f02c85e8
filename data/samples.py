"""A training sample: a picture with its masks, boxes and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class MaskWindow(NamedTuple):
    """One instance's mask, stored as the pixels inside a window; outside of it the mask is 0.

    Full masks of the hundred instances of a picture would take as much memory as a batch.
    """

    top: int  # first row of the window in the picture
    left: int  # first column
    pixels: np.ndarray  # uint8 [h, w], 1 inside the instance; contiguous

    @classmethod
    def from_full(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> MaskWindow:
        """Cut a mask, uint8 [h, w] of 0 and 1 placed at (top, left), to its tight window; 0 x 0 if empty."""
        if not mask.size:
            return cls(top, left, np.zeros((0, 0), np.uint8))
        # Not cv2.boundingRect: OpenCV 4.8 misses pixels of narrow masks that do not start at a multiple of 4 bytes.
        rows = mask.max(axis=1).nonzero()[0]  # several times as fast as `any`
        if not rows.size:
            return cls(top, left, np.zeros((0, 0), np.uint8))
        y1, y2 = rows[0], rows[-1] + 1
        columns = mask[y1:y2].max(axis=0).nonzero()[0]
        x1, x2 = columns[0], columns[-1] + 1
        return cls(top + int(y1), left + int(x1), np.ascontiguousarray(mask[y1:y2, x1:x2]))

    @property
    def bottom(self) -> int:
        return self.top + self.pixels.shape[0]

    @property
    def right(self) -> int:
        return self.left + self.pixels.shape[1]

    @property
    def area(self) -> int:
        """Number of pixels inside the instance."""
        return int(np.count_nonzero(self.pixels))

    def to_full(self, height: int, width: int) -> np.ndarray:
        """Return the full mask, uint8 [height, width]."""
        mask = np.zeros((height, width), np.uint8)
        mask[self.top : self.bottom, self.left : self.right] = self.pixels
        return mask


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture with its annotations; transforms return a changed copy.

    image: uint8 [H, W, 3] RGB.
    gt_masks: n masks with at least one pixel each, within the picture.
    gt_boxes: float32 [n, 4], x1, y1, x2, y2 in pixels, as annotated and then transformed; x2 and y2 exclusive.
    gt_classes: int64 [n], 0-based class of each instance.
    name: the picture's name for messages.
    border: `target.box_border`; a resize scales x2 - border and y2 - border, which the original programs store.
    """

    image: np.ndarray
    gt_masks: tuple[MaskWindow, ...]
    gt_boxes: np.ndarray
    gt_classes: np.ndarray
    name: str
    border: int = 0

    def __len__(self) -> int:
        return len(self.gt_masks)
