"""Tests that are slow except for some of their cases: the others test the same of networks that differ little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except_first(names: str | tuple[str, ...], cases: Iterable[Any], *, fast: int = 1) -> pytest.MarkDecorator:
    """Parametrize a test as `pytest.mark.parametrize` does, and mark all cases but the first `fast` slow."""
    rows = [(case,) if isinstance(names, str) else case for case in cases]
    marks = [() if place < fast else pytest.mark.slow for place in range(len(rows))]
    return pytest.mark.parametrize(names, [pytest.param(*row, marks=mark) for row, mark in zip(rows, marks)])
