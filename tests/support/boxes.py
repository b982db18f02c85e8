"""Random boxes for tests of suppression; many are equal, so that the order of equal boxes matters."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from model.decode.fast_boxes import Boxes

MOST = 12
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def entering_boxes(draw: st.DrawFn) -> Boxes:
    """Draw up to MOST boxes, highest score first, many equal in box, score or both, some without an area."""
    count = draw(st.integers(1, MOST))
    rng = np.random.default_rng(draw(SEEDS))
    corners = np.sort(rng.integers(0, draw(st.integers(2, 9)), (count, 2, 2)), axis=1).reshape(count, 4)
    scores = -np.sort(-rng.integers(1, draw(st.integers(2, 20)), count)) / 20
    boxes = (corners * rng.choice([1.0, 1.7, 33.3])).astype(np.float32)
    return Boxes(boxes, scores.astype(np.float32), rng.integers(0, 3, count))
