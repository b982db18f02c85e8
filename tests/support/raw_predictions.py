"""The raw predictions of SOLOv2 with names for their parts."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor


class RawPredictions(NamedTuple):
    scores: Tensor  # [N, cells, classes]
    kernels: Tensor  # [N, cells, D]
    mask_feats: Tensor  # [N, D, H / 4, W / 4]
