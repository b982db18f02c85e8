"""Scale masks and instances to another size of their picture, and draw them on it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tools.predict.instances import Instances
from tools.predict.mask_windows import EMPTY, MaskCrop, Size, tight_crop


def resize_crop(crop: np.ndarray, box: Sequence[int], scales: Sequence[float], size: Size) -> MaskCrop:
    """Return a mask in a picture that is scaled to this size.

    crop: bool [y2 - y1, x2 - x1], inside the box x1, y1, x2, y2. scales: of rows and of columns.
    """
    x1, y1, x2, y2 = box
    (top, bottom), (left, right) = (
        (min(int(low * scale), length - 1), min(max(round(high * scale), int(low * scale) + 1), length))
        for low, high, scale, length in ((y1, y2, scales[0], size[0]), (x1, x2, scales[1], size[1]))
    )
    if not crop.size:
        return EMPTY
    grey = np.ascontiguousarray(crop).view(np.uint8) * np.uint8(255)
    interpolation = cv2.INTER_AREA if max(scales) < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(grey, (right - left, bottom - top), interpolation=interpolation)
    return tight_crop(MaskCrop(top, left, resized > 127))


def reduce_instances(instances: Instances, size: Size) -> Instances:
    """Return the instances in a reduced picture of this size; small ones keep a pixel."""
    scales = [new / old for new, old in zip(size, instances.size)]
    return Instances.from_crops(
        size,
        [resize_crop(crop, box, scales, size) for crop, box in zip(instances.crops, instances.boxes.tolist())],
        instances.scores,
        instances.classes,
        instances.class_names,
        instances.category_ids,
        stretch=instances.stretch,
    )


def draw_reduced(instances: Instances, image: np.ndarray) -> np.ndarray:
    """Draw instances on their picture, or on a reduced one: uint8 [h, w, 3] RGB."""
    size = image.shape[:2]
    return (instances if instances.size == size else reduce_instances(instances, size)).draw(image)
