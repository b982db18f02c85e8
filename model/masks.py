"""From soft masks of the network to masks at the size of the picture, on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from paddle import Tensor
from paddle.nn import functional as F

CHUNK = 8  # masks enlarged together: a hundred at the size of a photo would be gigabytes


def enlarged_masks(
    soft_masks: Tensor, *, resized: tuple[int, int], original: tuple[int, int], threshold: float
) -> Iterator[np.ndarray]:
    """Enlarge soft masks to the picture and cut them at a threshold; only the result, bool [H, W], leaves the device.

    soft_masks: float32 [n, h, w] at a quarter of the padded input's size; resized: (height, width) of the picture
    within the padded input; original: of the picture itself. Two bilinear resizes with a cut between them, as in the
    original SOLO.
    """
    height, width = soft_masks.shape[1:]
    for start in range(0, soft_masks.shape[0], CHUNK):
        chunk = soft_masks[start : start + CHUNK].unsqueeze(0)
        padded = F.interpolate(chunk, size=(4 * height, 4 * width), mode="bilinear", align_corners=False)
        picture = padded[:, :, : resized[0], : resized[1]]
        soft = F.interpolate(picture, size=original, mode="bilinear", align_corners=False).squeeze(0)
        yield from (soft > threshold).numpy()
