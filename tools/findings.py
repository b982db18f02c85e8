"""From raw predictions to what was found in a picture, at its size: where the kinds of networks part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, NamedTuple

import numpy as np

from config.base import Config
from model.decoding import Raw, decode
from tools.mask_windows import Size, Window, masks_at_picture_size


class Findings(NamedTuple):
    """The n instances of a picture; n may be 0."""

    windows: Iterable[Window]  # n, the part of each mask that is not 0
    scores: np.ndarray  # float32 [n], descending
    classes: np.ndarray  # int64 [n], counted from 0


def find(
    raw: Raw,
    index: int,
    config: Config,
    score: float,
    *,
    resized: Size,
    original: Size,
    parallel: Callable[..., Iterable] = map,
) -> Findings:
    """The instances of picture `index` of a batch that have at least this score.

    resized: height and width of the picture within the padded input; original: of the picture itself. parallel: `map`,
    or that of a pool of threads.
    """
    decoded = decode(raw, index, config.head, config.nms, parallel)
    shown = int((decoded.scores >= score).sum())  # they stand in descending order
    windows = masks_at_picture_size(
        decoded.soft_masks[:shown],
        resized=resized,
        original=original,
        threshold=config.nms.mask_thr,
        parallel=parallel,
    )
    return Findings(windows, decoded.scores[:shown], decoded.classes[:shown])
