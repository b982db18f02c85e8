"""From raw predictions to what was found in a picture, at its size: where the kinds of networks part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, NamedTuple

import numpy as np

from config.base import Config
from model.decoding import Raw, decode
from model.head.decode import Decoded
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
    return _in_picture(decoded, config, score, resized, original, parallel)


def find_decoded(
    raw: Raw,
    index: int,
    config: Config,
    score: float,
    *,
    resized: Size,
    original: Size,
    parallel: Callable[..., Iterable] = map,
) -> Findings:
    """The same from what a graph gives that decodes by itself, of one picture; see model.end_to_end."""
    soft_masks, scores, classes, (count,) = raw
    decoded = Decoded(soft_masks[:count], scores[:count], classes[:count])
    return _in_picture(decoded, config, score, resized, original, parallel)


def _in_picture(
    decoded: Decoded, config: Config, score: float, resized: Size, original: Size, parallel: Callable[..., Iterable]
) -> Findings:
    shown = int((decoded.scores >= score).sum())  # they stand in descending order
    windows = masks_at_picture_size(
        decoded.soft_masks[:shown],
        resized=resized,
        original=original,
        threshold=config.nms.mask_thr,
        parallel=parallel,
    )
    return Findings(windows, decoded.scores[:shown], decoded.classes[:shown])
