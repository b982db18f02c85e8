"""Run the tests of a module with loops in numpy and with those that Numba compiles."""

from __future__ import annotations

import importlib.util
import sys
from unittest.mock import patch

import pytest

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="needs Numba, part of .[cpu]")


@pytest.fixture(params=["numpy", pytest.param("Numba", marks=needs_numba)], scope="module", autouse=True)
def both_loops(request):
    """Choose the loops, however few masks there are. Import it to use it."""
    with patch("model.decode.loops.MANY_MASKS", 1 if request.param == "Numba" else sys.maxsize):
        yield
