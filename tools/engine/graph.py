"""The type of a loaded graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np

Graph = Callable[[Sequence[np.ndarray]], "list[np.ndarray]"]  # inputs to outputs, in the order of the layer's
