"""From raw predictions to instances, for each kind of network; Paddle is not needed where they are arrays of numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

from config.base import HeadConfig, NMSConfig
from model.arrays import Array, near
from model.head.cell_masks import CellMasks, KernelMasks, LevelMasks, ProductMasks
from model.head.decode import Decoded, decode_picture

Raw = Sequence[Array]  # raw predictions: the scores of cells, and what their masks are made of


def decode(raw: Raw, index: int, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map) -> Decoded:
    """The instances of picture `index` of a batch; parallel: `map`, or that of a pool of threads."""
    scores, *parts = map(near, raw)
    return decode_picture(scores[index], CELL_MASKS[head.kind](parts, index, head), head, nms, parallel)


def _of_solov2(parts: Raw, index: int, head: HeadConfig) -> CellMasks:
    kernels, mask_feats = parts
    return KernelMasks(kernels[index], mask_feats[index])


def _of_solo(parts: Raw, index: int, head: HeadConfig) -> CellMasks:
    kernels, *mask_feats = parts
    return LevelMasks(kernels, [level[index] for level in mask_feats], head.num_grids)


def _of_decoupled_solo(parts: Raw, index: int, head: HeadConfig) -> CellMasks:
    return ProductMasks([level[index] for level in parts], head.num_grids)


# By `head.kind`: the masks of picture `index` of a batch, from what the network's `mask_parts` gave.
CELL_MASKS = {"solov2": _of_solov2, "solo": _of_solo, "decoupled_solo": _of_decoupled_solo}
