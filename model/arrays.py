"""Arrays of either library: numpy's, or tensors of Paddle, which need not be installed where there are none."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING, Union

import numpy as np

from model.startup import CPU_THREADS

if TYPE_CHECKING:
    from paddle import Tensor

Array = Union[np.ndarray, "Tensor"]


def library_of(array: Array) -> ModuleType:
    """numpy or Paddle; what is called of it has the same name and meaning in both."""
    return np if isinstance(array, np.ndarray) else sys.modules["paddle"]


def near(array: Array) -> Array:
    """The same values, without gradients; as numpy's where they are in the CPU's memory.

    There numpy has the faster kernels, and its products of matrices leave the sharing of work to our threads.
    """
    if isinstance(array, np.ndarray):
        return array
    return array.numpy() if array.place.is_cpu_place() else array.detach()


def like(values: np.ndarray, other: Array) -> Array:
    """Values as an array of the other's library."""
    return values if isinstance(other, np.ndarray) else sys.modules["paddle"].to_tensor(values)


def rows_of(array: Array, places: Array) -> Array:
    """places: int64 [m], an array of the same library (`like`)."""
    return array[places] if isinstance(array, np.ndarray) else array.gather(places)


def joined(arrays: Sequence[Array], axis: int = 0) -> Array:
    """One behind the other."""
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays, axis)
    return sys.modules["paddle"].concat(arrays, axis)


def packed(inside: Array) -> Array:
    """bool [n, k] in less memory: uint8 [n, ceil(k / 8)] of eight bits each; on a device uint8 [n, k], 0 or 1."""
    return np.packbits(inside, axis=1) if isinstance(inside, np.ndarray) else inside.astype("uint8")


def sorted_back(parts: Iterable[Array], order: np.ndarray) -> Array:
    """Rows, one part behind the other, each back at the place that `order`, int64 [n], took it from."""
    parts = iter(parts)
    first = next(parts)
    if not isinstance(first, np.ndarray):
        return rows_of(joined([first, *parts]), like(np.argsort(order), first))
    whole = np.empty((len(order), *first.shape[1:]), first.dtype)
    start = 0
    for part in chain([first], parts):  # one after another, none of which outlives its copy
        whole[order[start : start + len(part)]] = part
        start += len(part)
    return whole


def tiles_of(matrix: Array, width: int) -> list[Array]:
    """[n, k] in pieces of about `width` columns on a CPU, equal ones and as many for each thread; whole elsewhere.

    Each piece but the last one has a multiple of 8 columns, so that what is `packed` of them can be joined.
    """
    if not isinstance(matrix, np.ndarray):
        return [matrix]
    columns = matrix.shape[1]
    pieces = CPU_THREADS * math.ceil(columns / (width * CPU_THREADS))
    cuts = np.unique(np.arange(1, pieces) * columns // pieces // 8 * 8)
    return np.split(matrix, cuts[cuts > 0], axis=1)


def sigmoid(logits: Array) -> Array:
    if not isinstance(logits, np.ndarray):
        return logits.sigmoid()
    values = logits * 0.5
    np.tanh(values, out=values)  # in place as all that follows: new memory takes longer than the arithmetic
    values *= 0.5
    values += 0.5
    return values


def entries_above(matrix: Array, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of each entry above the threshold, row by row."""
    if isinstance(matrix, np.ndarray):
        rows, columns = np.nonzero(matrix > threshold)
        return rows, columns, matrix[rows, columns]
    pairs = (matrix > threshold).nonzero()
    values = matrix.gather_nd(pairs).numpy() if len(pairs) else np.zeros(0, np.float32)
    return (*pairs.numpy().reshape(-1, 2).T, values)
