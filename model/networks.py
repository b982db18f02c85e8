"""Which network a config means: the one table that new heads are added to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

import paddle

from config.base import Config, HeadConfig, NMSConfig
from model.centermask2 import CenterMask2
from model.decoupled_solo import DecoupledSOLO
from model.grid_network import GridNetwork, Raw
from model.head.decode import Decoded, decode_picture
from model.solo import SOLO
from model.solov2 import SOLOv2

# By `head.kind`.
GRID_NETWORKS = {"solov2": SOLOv2, "solo": SOLO, "decoupled_solo": DecoupledSOLO}
NETWORKS = {**GRID_NETWORKS, "centermask2": CenterMask2}


def build_model(config: Config) -> GridNetwork | CenterMask2:
    """The network of a config with freshly initialised weights, drawn from Paddle's generator (`paddle.seed`)."""
    return NETWORKS[config.head.kind](config)


@paddle.no_grad()
def decode(
    raw: Raw, index: int, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Decoded:
    """The instances that a GridNetwork found in picture `index`; parallel: `map`, or that of a pool of threads."""
    scores, *of_masks = raw
    masks = GRID_NETWORKS[head.kind].cell_masks(of_masks, index, head)
    return decode_picture(scores[index], masks, head, nms, parallel)
