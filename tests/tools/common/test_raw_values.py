"""Networks whose values are not finite are refused by every engine; thresholds would let nothing of them pass."""

from __future__ import annotations

import numpy as np
import pytest

from config.errors import InputError
from tests.support import tiny
from tools.common.raw_values import check_raw_values
from tools.engine.dynamic import DynamicEngine
from tools.predict.load import untrained_network


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_values_that_are_not_finite_are_refused(part, value):
    parts = [np.zeros((1, 5, 2), np.float32), np.zeros((1, 3, 4, 4), np.float32)]
    check_raw_values(parts)
    parts[part][0, 1] = value
    with pytest.raises(InputError, match="not finite numbers.*give another checkpoint"):
        check_raw_values(parts)


@pytest.mark.parametrize(
    ("number", "overrides"), [(tiny.CONFIG, tiny.OVERRIDES), (tiny.CENTERMASK2, tiny.CENTERMASK2_OVERRIDES)]
)
def test_a_network_with_damaged_weights_is_refused(number, overrides):
    predictor = tiny.predictor(number, untrained=0, overrides=overrides)
    network = untrained_network(predictor.config, 0)
    bias = network.head.cate_pred.bias
    bias.set_value(bias * np.nan)
    predictor.engine = DynamicEngine(network, predictor.config)
    with pytest.raises(InputError, match="not finite numbers"):
        predictor(tiny.scene(0))
