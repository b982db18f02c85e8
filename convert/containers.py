"""What lies around the weights of a checkpoint, and what is left when it is taken off."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

import numpy as np

from config.errors import InputError
from tools.common.safe_pickle import one_line

_WRAPPERS = ("state_dict", "model")
_DATA_PARALLEL = "module."


def extract_weights(
    tree: object, path: str | PathLike[str], *, as_array: Callable[[object], np.ndarray | None]
) -> dict[str, np.ndarray]:
    """The flat name -> array mapping inside the object that a checkpoint holds, in the order of the file.

    `{"state_dict": {...}, "meta": ...}` (mmdetection) and `{"model": {...}, "optimizer": ...}` (detectron2) are opened
    and what lies beside the weights is dropped; a prefix `module.` that every name has (DataParallel) is taken off.
    as_array: turns a value that is no numpy array into one; None where it is no array in disguise either.
    Raises InputError where no weights are found, or something among them is no array.
    """
    weights = _unwrap(tree)
    if not isinstance(weights, dict) or not weights:
        found = "an empty dict" if weights == {} else f"one {type(weights).__name__}"
        raise InputError(f"{path}: holds {found} where weights by name are expected; give a checkpoint of a network")
    arrays = {}
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else as_array(value)
        if array is None or not isinstance(name, str):
            raise InputError(
                f"{path}: {one_line(repr(name))} among its weights is one {type(value).__name__}, not a tensor; "
                "save the weights alone, or put them under the key 'state_dict'"
            )
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return _strip_data_parallel(arrays)


def _unwrap(tree: object) -> object:
    for _ in _WRAPPERS:  # each at most once, because a file can make a dict that holds itself
        inner = [tree[key] for key in _WRAPPERS if isinstance(tree, dict) and isinstance(tree.get(key), dict)]
        tree = inner[0] if inner else tree
    return tree


def _strip_data_parallel(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not all(name.startswith(_DATA_PARALLEL) for name in arrays):
        return arrays
    return {name[len(_DATA_PARALLEL) :]: array for name, array in arrays.items()}
