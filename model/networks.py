"""Which network a config means: the tables that new heads are added to, beside that of their decoding."""

from __future__ import annotations

from config.base import Config
from model.centermask2 import CenterMask2
from model.decoupled_solo import DecoupledSOLO
from model.end_to_end import EndToEnd
from model.end_to_end_boxes import BoxesEndToEnd
from model.grid_network import GridNetwork
from model.solo import SOLO
from model.solov2 import SOLOv2

# By `head.kind`.
GRID_NETWORKS = {"solov2": SOLOv2, "solo": SOLO, "decoupled_solo": DecoupledSOLO}
NETWORKS = {**GRID_NETWORKS, "centermask2": CenterMask2}
END_TO_END = {**dict.fromkeys(GRID_NETWORKS, EndToEnd), "centermask2": BoxesEndToEnd}


def build_model(config: Config) -> GridNetwork | CenterMask2:
    """The network of a config with freshly initialised weights, drawn from Paddle's generator (`paddle.seed`)."""
    return NETWORKS[config.head.kind](config)


def with_decoding(network: GridNetwork | CenterMask2, config: Config) -> EndToEnd | BoxesEndToEnd:
    """The network, in evaluation mode, as one graph that gives instances of one picture."""
    whole = END_TO_END[config.head.kind](network, config)
    whole.eval()
    return whole
