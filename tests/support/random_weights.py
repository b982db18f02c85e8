"""Write random weights as a checkpoint, for programs that take no `--untrained`."""

from __future__ import annotations

from pathlib import Path

from config.base import Config
from data.class_lists import ClassList
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.predict.load import untrained_network


def write_random_checkpoint(path: Path, config: Config) -> None:
    """Write the network of a config under which some instances pass the thresholds, the same at each call."""
    weights = {name: value.numpy() for name, value in untrained_network(config, 0).state_dict().items()}
    names = tuple(f"class {number}" for number in range(config.num_classes))
    classes = ClassList(names, tuple(range(1, config.num_classes + 1)))
    save_checkpoint(path, Checkpoint(weights, classes, config.name))
