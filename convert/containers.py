"""Extract the weights from the nested object of a checkpoint."""

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
    """Return the flat name -> array mapping inside the object of a checkpoint, in the order of the file.

    The weights may be under the key "state_dict" (mmdetection) or "model" (detectron2); the other entries are dropped.
    A prefix `module.` that all names have (DataParallel) is removed.
    as_array: converts a value that is not a numpy array; returns None if it is not a tensor.
    Raises InputError if there are no weights, or an entry among them is not a tensor.
    """
    weights = _unwrap(tree)
    if not isinstance(weights, dict) or not weights:
        found = "an empty dict" if weights == {} else f"one {type(weights).__name__}"
        raise InputError(f"{path}: holds {found} instead of weights by name; give a checkpoint of a network")
    if "format_version" in weights and "config_name" in weights:
        raise InputError(f"{path}: is a checkpoint of this project already; give it to demo.py with --weights")
    arrays = {}
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else as_array(value)
        if array is None or not isinstance(name, str):
            raise InputError(
                f"{path}: {one_line(repr(name))} among its weights is one {type(value).__name__}, not a tensor; "
                "save only the weights, or save them under the key 'state_dict'"
            )
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return _strip_data_parallel(arrays)


def _unwrap(tree: object) -> object:
    for _ in _WRAPPERS:  # a limited number of times, because a malicious file can have a dict that contains itself
        inner = [tree[key] for key in _WRAPPERS if isinstance(tree, dict) and isinstance(tree.get(key), dict)]
        tree = inner[0] if inner else tree
    return tree


def _strip_data_parallel(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not all(name.startswith(_DATA_PARALLEL) for name in arrays):
        return arrays
    return {name[len(_DATA_PARALLEL) :]: array for name, array in arrays.items()}
