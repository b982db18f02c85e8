"""The result of decoding one picture, before it is enlarged to the picture's own size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from model.decode.windows import WindowedMaps

if TYPE_CHECKING:
    from paddle import Tensor


class Decoded(NamedTuple):
    """Masks, scores and classes of one picture, n of each, at the network's resolution; n may be 0.

    From grids of cells they are sorted by score, from boxes (CenterMask2) by box score, highest first.
    """

    # float32 [n, h, w], probabilities: of the padded input at 1 / stride of its size, or of the cells of each box
    masks: np.ndarray | WindowedMaps | Tensor
    scores: np.ndarray  # float32 [n]
    classes: np.ndarray  # int64 [n], counted from 0
    boxes: np.ndarray | None = None  # float32 [n, 4], x1, y1, x2, y2 in pixels of the network's input
    box_scores: np.ndarray | None = None  # float32 [n]; `scores` are these times the estimated IoU of the mask
