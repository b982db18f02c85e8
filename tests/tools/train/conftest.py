"""Fixtures of the tests of training."""

import pytest
from paddle import nn

from tests.support import trainings


@pytest.fixture
def network() -> nn.Layer:
    return trainings.untrained_network()
