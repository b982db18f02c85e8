"""What compiled engines find is what the original programs found; these tests are slow."""

from __future__ import annotations

import pytest

from config import load_config
from convert.conversion import fill, network_shapes
from convert.names import PPDET_0_5, PPDET_2, SOLO
from data.class_lists import read_class_list
from data.preprocess import pad_to_batch, preprocess
from model.networks import build_model
from tests.support.parity import Fixture, match, needs_parity, picture
from tests.tools.engine.test_engines import COMPILED
from tools.common.checkpoint import load_weights
from tools.engine.compiled import compiled_engine
from tools.predict.instances import Instances
from tools.predict.postprocess import find

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
        network = build_model(config)
        load_weights(network, weights, path=name, config_name=config.name)
        network.eval()
        return network

    single = preprocess(picture(), config.data)
    raw = compiled_engine(engine, "fp32", build, config, weights)(pad_to_batch([single], config.data.size_divisor))
    size = picture().shape[:2]
    found = find(raw, 0, config, 0.0, resized=single.shape[:2], original=size)
    classes = read_class_list(config.classes_file)
    instances = Instances.from_windows(size, found.windows, found.scores, found.classes, classes.names, classes.ids)
    unmatched, extra = match(fixture, instances)
    recorded = len(fixture.final()[0])
    assert recorded >= 40 and len(unmatched) <= ON_THRESHOLDS
    padding_row = int(fixture.model.startswith("ppdet") and len(instances) == config.nms.max_per_img)
    assert len(extra) <= ON_THRESHOLDS + padding_row
