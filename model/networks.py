"""Which network a config means: the one table that new heads are added to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, NamedTuple

from config.base import Config, HeadConfig, NMSConfig
from model.decoupled_solo import DecoupledSOLO
from model.grid_network import GridNetwork, Raw
from model.head.cell_masks import CellMasks, KernelMasks, LevelMasks, ProductMasks
from model.head.decode import Decoded, decode_picture
from model.solo import SOLO
from model.solov2 import SOLOv2


class Kind(NamedTuple):
    """A kind of head: its network, and the masks of picture `index` of what that says about a batch."""

    network: type[GridNetwork]
    masks: Callable[[Raw, int, HeadConfig], CellMasks]


def _solov2_masks(raw: Raw, index: int, head: HeadConfig) -> CellMasks:
    _, kernels, mask_feats = raw
    return KernelMasks(kernels[index], mask_feats[index])


def _solo_masks(raw: Raw, index: int, head: HeadConfig) -> CellMasks:
    _, kernels, *mask_feats = raw
    return LevelMasks(kernels, [level[index] for level in mask_feats], head.num_grids)


def _decoupled_solo_masks(raw: Raw, index: int, head: HeadConfig) -> CellMasks:
    _, *mask_logits = raw
    return ProductMasks([level[index] for level in mask_logits], head.num_grids)


KINDS = {
    "solov2": Kind(SOLOv2, _solov2_masks),
    "solo": Kind(SOLO, _solo_masks),
    "decoupled_solo": Kind(DecoupledSOLO, _decoupled_solo_masks),
}


def build_model(config: Config) -> GridNetwork:
    """The network of a config with freshly initialised weights, drawn from Paddle's generator (`paddle.seed`)."""
    return KINDS[config.head.kind].network(config)


def cell_masks(raw: Raw, index: int, head: HeadConfig) -> CellMasks:
    """The masks that the cells of picture `index` of a batch predict."""
    return KINDS[head.kind].masks(raw, index, head)


def decode(
    raw: Raw, index: int, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Decoded:
    """The instances of picture `index` of a batch; parallel: `map`, or that of a pool of threads."""
    return decode_picture(raw[0][index], cell_masks(raw, index, head), head, nms, parallel)
