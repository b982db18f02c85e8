"""The scripts of this folder: the name tables of each, and the networks or backbones whose files it converts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from config import load_config, registry
from config.base import BackboneConfig, Config
from config.errors import InputError
from convert.conversion import Arrays, NameTable, Shapes, backbone_shapes, fill, network_shapes
from convert.names import CENTERMASK2, MOBILENET, OPENFIREWORK, PPDET_0_5, PPDET_2, SOLO, SSLD, TORCHVISION, VOVNET

NETWORK_SCRIPTS: Mapping[str, Sequence[NameTable]] = {
    "convert/solo2paddle.py": [SOLO],
    "convert/openfirework2paddle.py": [OPENFIREWORK],
    "convert/ppdet2paddle.py": [PPDET_2, PPDET_0_5],
    "convert/centermask2paddle.py": [CENTERMASK2],
}
BACKBONE_SCRIPTS: Mapping[str, Sequence[NameTable]] = {
    "convert/torchvision2paddle.py": [TORCHVISION],
    "convert/ssld2paddle.py": SSLD,
    "convert/vovnet2paddle.py": [VOVNET],
    "convert/mobilenet2paddle.py": [MOBILENET],
}
CLASS_BIAS = "head.cate_pred.bias"  # its length is the number of classes
# Configs with the backbones, except plain ResNets, that a script converts.
BACKBONE_CONFIGS = {
    "convert/ssld2paddle.py": (22,),
    "convert/vovnet2paddle.py": (30, 32, 33, 34, 35, 36),
    "convert/mobilenet2paddle.py": (37,),
}


def configs_of(script: str) -> list[Config]:
    """Return the configs with a published checkpoint that this script converts."""
    return [kind() for kind in registry().values() if any(p.convert == script for p in kind.published)]


def backbones_of(script: str) -> list[BackboneConfig]:
    """Return the backbones that this script converts."""
    others = [load_config(number).backbone for number in BACKBONE_CONFIGS.get(script, ())]
    if script == "convert/ssld2paddle.py":
        return [*plain_resnets(50, variant="d"), *others]
    return others or plain_resnets(18, 34, 50, 101, variant="b")


def plain_resnets(*depths: int, variant: Literal["b", "d"]) -> list[BackboneConfig]:
    """Return the configs of ResNets of these depths without deformable convolutions."""
    return [replace(BackboneConfig(), depth=depth, variant=variant) for depth in depths]


def shapes_of_backbones(script: str) -> dict[str, Shapes]:
    """Return the parameter shapes of each backbone of a script, by the name of its checkpoint."""
    return {f"{backbone.name}_imagenet": backbone_shapes(backbone) for backbone in backbones_of(script)}


def count_classes(foreign: Arrays, table: NameTable) -> int | None:
    """Return the number of classes of a file, None if it has no classes under the names of this table."""
    _, bias = table.rename(foreign).get(CLASS_BIAS, (None, None))
    return len(bias) if bias is not None and bias.ndim == 1 else None


def find_uses(foreign: Arrays) -> list[str]:
    """Return the configs and backbones that a file fits, each with its script: "config 3 (convert/solo2paddle.py)"."""
    return [*_fitting_networks(foreign), *_fitting_backbones(foreign)]


def _fitting_networks(foreign: Arrays) -> Iterator[str]:
    for script, tables in NETWORK_SCRIPTS.items():
        for table in tables:
            with suppress(InputError):  # the names of the file are not those of this table
                if classes := count_classes(foreign, table):
                    for config in configs_of(script):
                        with suppress(InputError):
                            fill(network_shapes(config.replace(num_classes=classes)), foreign, [table])
                            yield f"config {config.number} ({script})"


def _fitting_backbones(foreign: Arrays) -> Iterator[str]:
    for script, tables in BACKBONE_SCRIPTS.items():
        for name, shapes in shapes_of_backbones(script).items():
            with suppress(InputError):
                fill(shapes, foreign, tables)
                yield f"backbone {name} ({script})"
