"""Check what a network gives before it is decoded: NaN would pass no threshold, and nothing would be found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from config.errors import InputError


def check_raw_values(parts: Sequence[np.ndarray]) -> None:
    """Raise InputError if a network's raw predictions on a CPU are not finite numbers.

    Of all parts but the first, the scores, only the first column is looked at: weights that are damaged show
    everywhere, and the mask features have tens of megabytes.
    """
    if not all(np.isfinite(part[..., :1] if place else part).all() for place, part in enumerate(parts)):
        raise InputError(
            "the network gives values that are not finite numbers: its weights are damaged, or too large for it; give "
            "another checkpoint"
        )
