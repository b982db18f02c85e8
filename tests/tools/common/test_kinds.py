"""Every kind of network and of backbone that a config may name is in all tables; a new head needs one entry."""

from __future__ import annotations

from typing import get_args, get_type_hints

import numpy as np
import paddle
import pytest

import train as training
from config import load_config
from config.networks import BACKBONE_OPTIONS, DEPTHS, HEAD_KINDS, BackboneConfig, HeadConfig, HeadKind
from model.backbone.build import BACKBONES
from model.grid_network import GridNetwork
from model.solov2 import SOLOv2
from tests.support import exports, tiny, trainings
from tests.support.programs import run_main
from tools.common import config_table
from tools.common.kinds import NetworkKind, SOLOv2Kind, build_network, descriptor, kind_of


@pytest.mark.parametrize("table", [BACKBONES, BACKBONE_OPTIONS, DEPTHS, config_table._BACKBONE_LABELS])
def test_every_backbone_is_in_each_table(table):
    assert set(table) == set(get_args(get_type_hints(BackboneConfig)["kind"]))


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_every_kind_of_network_has_a_descriptor(kind):
    assert isinstance(descriptor(kind), NetworkKind)
    assert descriptor(kind).has_grids != HEAD_KINDS[kind].predicts_boxes
    assert {type(getattr(HeadConfig(), option)) for option in HEAD_KINDS[kind].options} <= {bool, int}


@pytest.mark.parametrize("kind", tiny.GRID_KINDS)
def test_a_descriptor_builds_its_network_and_names_its_outputs(kind):
    config = load_config(20, [f"head.kind={kind}"])
    assert kind_of(config) is descriptor(kind)
    assert type(build_network(config)) is descriptor(kind).network()
    names = list(descriptor(kind).raw_outputs(config))
    assert names[0] == "scores" and len(names) == len(descriptor(kind).build(config)(paddle.zeros([1, 3, 64, 64])))


class OwnNetwork(SOLOv2):
    """A network with a head of its own: a user's file in model/."""


class OwnKind(SOLOv2Kind):
    """Its descriptor."""

    outputs = dict(zip(("scores", "own_kernels", "mask_feats"), SOLOv2Kind.outputs.values()))

    def network(self) -> type[GridNetwork]:
        return OwnNetwork


def test_a_new_head_needs_one_entry(tmp_path, monkeypatch):
    """With it, the head predicts, trains and is exported; configs know its name."""
    monkeypatch.setitem(HEAD_KINDS, "own", HeadKind(f"{__name__}:OwnKind"))
    predictor = tiny.predictor(tiny.CONFIG, untrained=0, overrides=[*tiny.OVERRIDES, "head.kind=own"])
    expected = tiny.tiny_predictor()(tiny.scene(0))
    np.testing.assert_array_equal(predictor(tiny.scene(0)).scores, expected.scores)
    assert len(expected)
    options = *trainings.options("head.kind=own"), f"--output={tmp_path}"
    status, _, err = run_main(training.main, *options)
    assert status == 0, err
    assert list(tmp_path.glob("*.pdparams"))


@exports.needs_onnx
def test_a_new_head_is_exported(monkeypatch):
    monkeypatch.setitem(HEAD_KINDS, "own", HeadKind(f"{__name__}:OwnKind"))
    session = exports.open_exported(exports.of_kind("own"))
    assert [output.name for output in session.get_outputs()] == ["scores", "own_kernels", "mask_feats"]
