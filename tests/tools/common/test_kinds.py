"""Every kind of network and of backbone that a config may name is in all tables of kinds."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from config import load_config
from config.networks import DEPTHS, BackboneConfig, HeadConfig
from model.backbone.build import BACKBONES
from tools.common import cli
from tools.common.kinds import KINDS, build_network, kind_of


def choices(section: type) -> set[str]:
    """Return the values of the field `kind` of a config section."""
    return set(get_args(get_type_hints(section)["kind"]))


@pytest.mark.parametrize("table", [BACKBONES, DEPTHS, cli._BACKBONE_LABELS])
def test_every_backbone_is_in_each_table(table):
    assert set(table) == choices(BackboneConfig)


def test_every_kind_of_network_has_a_descriptor():
    assert set(KINDS) == choices(HeadConfig)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].has_grids])
def test_a_descriptor_builds_its_network_and_names_its_outputs(kind):
    config = load_config(20, [f"head.kind={kind}"])
    assert kind_of(config) is KINDS[kind]
    assert type(build_network(config)) is KINDS[kind].network()
    names = KINDS[kind].raw_outputs(config)
    assert names[0] == "scores" and len(set(names)) == len(names)
