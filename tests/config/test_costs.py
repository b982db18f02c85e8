"""The costs that the configs state are those of their networks."""

from __future__ import annotations

import pytest

from config import load_config, registry
from tools.engine.operations import cost_of

FAST = 20
STATED = [number for number, kind in registry().items() if kind.cost]


@pytest.mark.parametrize(
    "number", [number if number == FAST else pytest.param(number, marks=pytest.mark.slow) for number in STATED]
)
def test_a_config_states_the_costs_of_its_network(number):
    config = load_config(number)
    assert config.cost == cost_of(config)
