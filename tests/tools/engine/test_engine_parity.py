"""Compiled engines find the instances that the original programs found; these tests are slow."""

from __future__ import annotations

import pytest

from config import load_config
from convert.conversion import fill, network_shapes
from convert.names import PPDET_0_5, PPDET_2, SOLO
from data.class_lists import read_class_list
from tests.support.parity import Fixture, match, needs_parity, picture
from tests.tools.engine.test_engines import COMPILED
from tools.common.checkpoint import load_weights
from tools.common.kinds import build_network
from tools.engine.compiled import compile_engine
from tools.predict.predictor import Predictor

pytestmark = [needs_parity, pytest.mark.slow]

RECORDINGS = (
    ("solo_solov2_light_448_r50_fpn_8gpu_3x_evalc", 1, (SOLO,)),
    ("solo_solov2_r50_fpn_8gpu_3x_evalc", 0, (SOLO,)),
    ("solo_solov2_light_512_dcn_r50_fpn_8gpu_3x_evalc", 5, (SOLO,)),
    ("ppdet_solov2_r50_enhance_coco_evalk", 11, (PPDET_2, PPDET_0_5)),
    ("solo_solo_r50_fpn_8gpu_3x_evalc", 13, (SOLO,)),
    ("solo_decoupled_solo_r50_fpn_8gpu_3x_evalc", 16, (SOLO,)),
)
ON_THRESHOLDS = 2  # instances of a hundred that another order of additions may decide differently


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize(("name", "number", "tables"), RECORDINGS, ids=[name for name, *_ in RECORDINGS])
def test_instances(engine, name, number, tables):
    fixture = Fixture(name)
    config = load_config(number)
    weights, table = fill(network_shapes(config), fixture.checkpoint(), tables)
    config = load_config(config, table.overrides)

    def build():
        network = build_network(config)
        load_weights(network, weights, path=name, config_name=config.name)
        network.eval()
        return network

    run = compile_engine(engine, "fp32", build, config, weights)
    predictor = Predictor(config, read_class_list(config.classes_file), run, score=0.0, engine_name=engine)
    instances = predictor(picture())
    unmatched, extra = match(fixture, instances)
    recorded = len(fixture.final()[0])
    assert recorded >= 40 and len(unmatched) <= ON_THRESHOLDS
    padding_row = int(fixture.model.startswith("ppdet") and len(instances) == config.nms.max_per_img)
    assert len(extra) <= ON_THRESHOLDS + padding_row
