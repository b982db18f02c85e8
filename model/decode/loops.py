"""Loops over masks that Numba compiles, if it is installed."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from types import ModuleType

MANY_MASKS = 64  # fewer do not pay for loading Numba, which takes half a second


def numba_loops(masks: int) -> ModuleType | None:
    """Return `model.decode.numba_loops` for a number of masks; None for few of them, and without Numba.

    The first call for many masks compiles the loops, which takes seconds; Numba keeps them, and other programs load
    them. Each loop has a version in numpy at the place where it is called, with the same result up to rounding.
    """
    return _load() if masks >= MANY_MASKS else None


@lru_cache(maxsize=1)
def _load() -> ModuleType | None:
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return _import_loops()
    except Exception:  # a Numba that does not fit the numpy, a full disk: numpy takes longer, and that is all
        return None


def _import_loops() -> ModuleType:
    from model.decode import numba_loops

    numba_loops.warm_up()
    return numba_loops
