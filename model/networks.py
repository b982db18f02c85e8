"""Which network a config means: the table that new heads are added to, beside that of their decoding."""

from __future__ import annotations

from config.base import Config
from model.decoupled_solo import DecoupledSOLO
from model.grid_network import GridNetwork
from model.solo import SOLO
from model.solov2 import SOLOv2

NETWORKS = {"solov2": SOLOv2, "solo": SOLO, "decoupled_solo": DecoupledSOLO}  # by `head.kind`


def build_model(config: Config) -> GridNetwork:
    """The network of a config with freshly initialised weights, drawn from Paddle's generator (`paddle.seed`)."""
    return NETWORKS[config.head.kind](config)
