"""Convert another program's weights to ours: rename them and check that they fit.

A source is described by a `NameTable` (see names.py); its script only adds the help text of its command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from config.base import BackboneConfig, Config
from config.errors import InputError
from model.backbone.build import build_backbone
from tools.common.checkpoint import compare_shapes
from tools.common.kinds import build_network

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class NameTable:
    """Rules that translate the parameter names of another program to ours.

    renames: (regular expression, replacement) pairs, applied in order to each of its names.
    ignored: expressions for its names that have no counterpart here.
    transposed: expressions for our names of matrices that the program stores transposed.
    overrides: settings in which the program differs from the numbered config, stored in the checkpoint.
    """

    program: str
    renames: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def rename(self, foreign: Arrays) -> dict[str, tuple[str, np.ndarray]]:
        """Return our name -> (the program's name, array) for all entries that are not ignored.

        Raises InputError if two entries have the same name of ours.
        """
        renamed: dict[str, tuple[str, np.ndarray]] = {}
        for name, array in foreign.items():
            if any(re.search(pattern, name) for pattern in self.ignored):
                continue
            ours = name
            for pattern, replacement in self.renames:
                ours = re.sub(pattern, replacement, ours)
            if ours in renamed:
                raise InputError(f"{name} and {renamed[ours][0]} are the same parameter; keep one of them in the file")
            renamed[ours] = (name, array.T if self.is_transposed(ours) else array)
        return renamed

    def is_transposed(self, ours: str) -> bool:
        return any(re.search(pattern, ours) for pattern in self.transposed)


def fill(expected: Shapes, foreign: Arrays, tables: Sequence[NameTable]) -> tuple[dict[str, np.ndarray], NameTable]:
    """Convert the weights of a file by the table that matches most names; returns the weights and this table.

    expected: names and shapes of our parameters. Every one is filled with an equal shape, and every entry of the file
    is used exactly once or ignored by the table. Otherwise raises InputError that lists the differences.
    """
    candidates = [(table.rename(foreign), table) for table in tables]
    renamed, table = max(candidates, key=lambda pair: len(pair[0].keys() & expected.keys()))
    problems = compare_shapes(
        expected,
        # An entry that has no place here is reported by its name in the file.
        {(ours if ours in expected else theirs): array.shape for ours, (theirs, array) in renamed.items()},
    )
    if problems:
        raise InputError(problems)
    weights = {}
    for name in expected:
        theirs, array = renamed[name]
        if array.dtype.kind != "f":
            raise InputError(f"{theirs} has dtype {array.dtype}, not floating-point; save it as float32")
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            weights[name] = array.astype(np.float32, copy=False)
        if not np.isfinite(weights[name]).all():
            raise InputError(f"{theirs} has values that are not finite in float32; get another copy of the file")
    return weights, table


def similarity(expected: Shapes, foreign: Arrays, tables: Sequence[NameTable]) -> float:
    """Return how much of a file fits a network by its best table, 0 to 1: the share of names with equal shapes."""
    shapes = [{ours: array.shape for ours, (_, array) in table.rename(foreign).items()} for table in tables]
    matches = max(sum(found.get(name) == shape for name, shape in expected.items()) for found in shapes)
    return 2 * matches / (len(expected) + len(foreign))


def network_shapes(config: Config) -> Shapes:
    """Return names and shapes of a network's parameters and statistics, without drawing initial weights."""
    with paddle.LazyGuard():
        return _state_shapes(build_network(config))


def backbone_shapes(config: BackboneConfig) -> Shapes:
    """Return names and shapes of a backbone's parameters and statistics, with the names they have in a network."""
    with paddle.LazyGuard():
        return {f"backbone.{name}": shape for name, shape in _state_shapes(build_backbone(config)).items()}


def _state_shapes(network: paddle.nn.Layer) -> Shapes:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
