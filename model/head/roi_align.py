"""RoIAlign (He et al. 2017): cut the features of boxes out of the level of the pyramid that fits their size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.vision.ops import roi_align

from config.networks import BOX_STRIDES
from model.decode.fast_boxes import Size, areas

ROI_LEVELS = 3  # P3 to P5


def box_levels(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Return the level of each box by its share of the picture, int64 [n], 0 for P3 (Lee and Park 2020, section 3.2).

    size: height and width of the picture within the network's input.
    """
    of_boxes, picture = areas(boxes), size[0] * size[1]
    return (of_boxes * 2 > picture).astype(np.int64) + (of_boxes * 4 > picture)


def box_features(maps: Sequence[Tensor], boxes: Sequence[np.ndarray], sizes: Sequence[Size], *, side: int) -> Tensor:
    """Cut out the features of the n boxes of a batch, picture by picture: [n, C, side, side]; n is 1 or more.

    maps: [N, C, h, w] of P3, P4 and P5; boxes: float32 [n_i, 4] of each picture; sizes: as in `box_levels`. The
    features of a box without an area are 0, as in detectron2; Paddle would divide by its area.
    """
    levels = [box_levels(own, size) for own, size in zip(boxes, sizes)]
    rois = np.concatenate(boxes).astype(np.float32)
    has_area = (rois[:, 2:] > rois[:, :2]).all(axis=1)
    rois[~has_area, 2:] = rois[~has_area, :2] + 1
    parts, places = [], []
    first = np.cumsum([0, *map(len, boxes)])
    for level, (feature, stride) in enumerate(zip(maps, BOX_STRIDES)):
        chosen = [start + np.flatnonzero(own == level) for start, own in zip(first, levels)]
        rows = np.concatenate(chosen)
        if not len(rows):
            continue
        places.append(rows)
        parts.append(
            roi_align(
                feature.astype("float32"),
                paddle.to_tensor(rois[rows]),
                paddle.to_tensor(np.array([len(own) for own in chosen], np.int32)),
                output_size=side,
                spatial_scale=1 / stride,
                sampling_ratio=-1,  # as many samples as a cell has pixels of the map, rounded up
                aligned=True,
            )
        )
    order = np.argsort(np.concatenate(places))
    features = paddle.concat(parts).gather(paddle.to_tensor(order))
    if has_area.all():
        return features
    return features * paddle.to_tensor(has_area.astype(np.float32)).reshape([-1, 1, 1, 1])
