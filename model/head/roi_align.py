"""What the pyramid has in a box: its level, and RoIAlign (He et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.vision.ops import roi_align

from config.networks import BOX_STRIDES
from model.arrays import Array
from model.head.box_decode import Size, areas

ROI_LEVELS = 3  # P3 to P5


def levels_of(boxes: Array, size: Sequence[Array | int]) -> Array:
    """The level of each box, int64 [n], 0 for P3, by its share of the picture (Lee and Park 2020, section 3.2).

    size: height and width of the picture within the network's input.
    """
    of_boxes, of_picture = areas(boxes), size[0] * size[1]
    # A level lower for each time that the box fits twice into the picture.
    return sum((of_boxes * 2**halvings > of_picture).astype("int64") for halvings in range(1, ROI_LEVELS))


def box_features(maps: Sequence[Tensor], boxes: Sequence[np.ndarray], sizes: Sequence[Size], *, side: int) -> Tensor:
    """[n, C, side, side] of the n boxes of all pictures of a batch, picture by picture; n is 1 or more.

    Of a box without an area all is 0, as in detectron2; Paddle would divide by it.

    maps: [N, C, h, w] of P3, P4 and P5; boxes: float32 [n_i, 4] of each picture; sizes: as in `levels_of`.
    """
    levels = [levels_of(of_picture, size) for of_picture, size in zip(boxes, sizes)]
    whole = np.concatenate(boxes).astype(np.float32)
    real = (whole[:, 2:] > whole[:, :2]).all(axis=1)
    whole[~real, 2:] = whole[~real, :2] + 1
    parts, places = [], []
    first = np.cumsum([0, *map(len, boxes)])
    for level, (feature, stride) in enumerate(zip(maps, BOX_STRIDES)):
        chosen = [start + np.flatnonzero(of_picture == level) for start, of_picture in zip(first, levels)]
        rows = np.concatenate(chosen)
        if not len(rows):
            continue
        places.append(rows)
        parts.append(
            roi_align(
                feature.astype("float32"),
                paddle.to_tensor(whole[rows]),
                paddle.to_tensor(np.array([len(of_picture) for of_picture in chosen], np.int32)),
                output_size=side,
                spatial_scale=1 / stride,
                sampling_ratio=-1,  # as many samples as a cell has pixels of the map, rounded up
                aligned=True,
            )
        )
    order = np.argsort(np.concatenate(places))
    features = paddle.concat(parts).gather(paddle.to_tensor(order))
    return features if real.all() else features * paddle.to_tensor(real.astype(np.float32)).reshape([-1, 1, 1, 1])
