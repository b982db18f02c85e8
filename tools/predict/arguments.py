"""Check arguments of `load_predictor` and `exported_predictor` that nothing else checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from config.errors import InputError

SECTIONS = ("test_cfg", "eval_cfg")  # of a config, with a checkpoint and a score


def check_running(overrides: object, section: object, streams: object) -> list[str]:
    """Return the overrides as a list. Raises InputError for arguments of another type or value."""
    is_list = isinstance(overrides, Iterable) and not isinstance(overrides, (str, Mapping))
    assignments: list[Any] = list(overrides) if is_list else [None]  # type: ignore[call-overload]
    if not all(isinstance(assignment, str) for assignment in assignments):
        raise InputError(f"overrides={overrides!r}: expected a list, such as ['nms.max_per_img=50']")
    if isinstance(streams, bool) or not (isinstance(streams, (int, np.integer)) and streams > 0):
        raise InputError(f"streams={streams!r}: expected an integer above 0")
    if section not in SECTIONS:
        raise InputError(f"section={section!r}: expected {' or '.join(map(repr, SECTIONS))}")
    return assignments
