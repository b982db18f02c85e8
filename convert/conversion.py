"""The one way from another program's checkpoint to ours: rename, check, write.

A source is a `NameTable`, which is data (`names.py`); its script adds the text of its command line and nothing else.
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
from model.networks import build_model
from tools.common.checkpoint import compare_shapes

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class NameTable:
    """How a program calls what we call otherwise.

    renames: regular expressions and replacements that, applied in order, turn each of its names into ours.
    ignored: expressions for its names that have no use here.
    transposed: expressions for ours that stand there with rows and columns exchanged.
    overrides: settings in which the program differs from the numbered config, kept in the checkpoint.
    """

    program: str
    renames: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def rename(self, foreign: Arrays) -> dict[str, tuple[str, np.ndarray]]:
        """Our name -> (the program's name, array) for everything that is not ignored.

        Raises InputError where two entries mean the same parameter.
        """
        renamed: dict[str, tuple[str, np.ndarray]] = {}
        for name, array in foreign.items():
            if any(re.search(pattern, name) for pattern in self.ignored):
                continue
            ours = name
            for pattern, replacement in self.renames:
                ours = re.sub(pattern, replacement, ours)
            if ours in renamed:
                raise InputError(f"{name} and {renamed[ours][0]} mean the same parameter; keep one of them in the file")
            renamed[ours] = (name, array.T if self.is_transposed(ours) else array)
        return renamed

    def is_transposed(self, ours: str) -> bool:
        return any(re.search(pattern, ours) for pattern in self.transposed)


def fill(wanted: Shapes, foreign: Arrays, tables: Sequence[NameTable]) -> tuple[dict[str, np.ndarray], NameTable]:
    """Our weights from a file's, by the one of a program's tables that knows most of the names.

    Every entry of the file is used exactly once or known to be of no use, every parameter of ours is filled, every
    shape is equal. Raises InputError that lists what is not.
    """
    renamed_by = [(table.rename(foreign), table) for table in tables]
    renamed, table = max(renamed_by, key=lambda pair: len(pair[0].keys() & wanted.keys()))
    problems = compare_shapes(
        wanted,
        # What has no place here is reported under the name that it has in the file.
        {(ours if ours in wanted else theirs): array.shape for ours, (theirs, array) in renamed.items()},
    )
    if problems:
        raise InputError(problems)
    for name in wanted:
        theirs, array = renamed[name]
        if array.dtype.kind != "f":
            raise InputError(f"{theirs} holds {array.dtype} and not floating-point numbers; save it as float32")
    return {name: renamed[name][1].astype(np.float32, copy=False) for name in wanted}, table


def network_shapes(config: Config) -> Shapes:
    """Names and shapes of a config's parameters and statistics, without the cost of drawing initial weights."""
    with paddle.LazyGuard():
        return _state_shapes(build_model(config))


def backbone_shapes(config: BackboneConfig) -> Shapes:
    """The same for a backbone alone, named as within a network."""
    with paddle.LazyGuard():
        return {f"backbone.{name}": shape for name, shape in _state_shapes(build_backbone(config)).items()}


def _state_shapes(network: paddle.nn.Layer) -> Shapes:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
