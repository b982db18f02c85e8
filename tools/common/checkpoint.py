"""Our checkpoint files: weights, and beside them what a program must know to use them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from paddle import nn

from config import load_config
from config.base import Config
from config.errors import InputError, listed
from data.class_lists import ClassList
from data.files import atomic_write
from tools.common.safe_pickle import damaged_error, load_arrays

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """weights: name in our network -> array. `config_name`: the config they belong to; empty for a bare backbone.

    overrides: assignments such as `data.resize_by=factor`: how the program that trained these weights differs from the
    config, applied before the user's own. source: where they come from, text by key (file, program, SHA-256).
    """

    weights: Mapping[str, np.ndarray]
    classes: ClassList
    config_name: str
    overrides: tuple[str, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)

    def adapt(self, config: Config) -> Config:
        """The config as these weights need it: the checkpoint's overrides and its number of classes."""
        return load_config(config, self.overrides).replace(num_classes=len(self.classes))


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a `.pdparams`: a pickle of a dict of plain values and arrays, which `paddle.load` reads as well."""
    content = {
        "format_version": FORMAT_VERSION,
        "config_name": checkpoint.config_name,
        "class_names": list(checkpoint.classes.names),
        "category_ids": list(checkpoint.classes.ids),
        "overrides": list(checkpoint.overrides),
        "source": dict(checkpoint.source),
        "weights": {name: np.asarray(array, order="C") for name, array in checkpoint.weights.items()},
    }
    with atomic_write(path, durable=True) as temporary, temporary.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without running code from it. Raises InputError where it is none of ours."""
    foreign = InputError(f"{path}: no checkpoint of this project; make one with a script in convert/")
    try:
        with Path(path).open("rb") as stream:
            if stream.read(1) != pickle.PROTO:
                raise foreign
            stream.seek(0)
            content = load_arrays(stream, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a checkpoint with --weights (train.py: --finetune)"
        ) from None
    if not isinstance(content, dict) or "format_version" not in content:
        raise foreign
    if type(content["format_version"]) is not int or content["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {content['format_version']}, this program reads {FORMAT_VERSION}; update it"
        )
    wrong = [key for key, fits in _CONTENT.items() if not fits(content.get(key))]
    if wrong or len(content["class_names"]) != len(content["category_ids"]):
        raise damaged_error(path, f"has invalid {', '.join(wrong) or 'class_names and category_ids'}")
    return Checkpoint(
        weights=content["weights"],
        classes=ClassList(names=tuple(content["class_names"]), ids=tuple(content["category_ids"])),
        config_name=content["config_name"],
        overrides=tuple(content["overrides"]),
        source=content["source"],
    )


def _list_of(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _dict_of(kind: type) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict) and all(isinstance(key, str) and isinstance(item, kind) for key, item in value.items())
    )


_CONTENT: dict[str, Callable[[object], bool]] = {
    "weights": _dict_of(np.ndarray),
    "class_names": _list_of(str),
    "category_ids": _list_of(int),
    "config_name": lambda value: isinstance(value, str),
    "overrides": _list_of(str),
    "source": _dict_of(str),
}


def load_weights(
    network: nn.Layer, weights: Mapping[str, np.ndarray], *, path: str | Path, config_name: str, made_for: str = ""
) -> None:
    """Fill every parameter of a network; `made_for` is the name of the config that the checkpoint says it belongs to.

    Raises InputError that lists what is missing, too much or of another shape.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    problems = compare_shapes(wanted, found)
    problems = problems or listed([f"{n} holds {a.dtype}" for n, a in weights.items() if a.dtype.kind != "f"])
    if problems:
        remedy = f"it was made for --config={made_for}" if made_for else "give the config it was made for"
        raise InputError(f"{path} does not fit config {config_name}: {problems}; {remedy}")
    _fill(network, weights)


def load_fitting_weights(network: nn.Layer, weights: Mapping[str, np.ndarray], *, path: str | Path) -> list[str]:
    """Fill the parameters for which a checkpoint has weights of the same name and shape; the others stay.

    Returns what did not fit, a line each. Raises InputError where nothing fits.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    fitting = {name: array for name, array in weights.items() if wanted.get(name) == array.shape}
    if not fitting:
        raise InputError(f"{path}: no weight of it fits this network; give a checkpoint of a similar one")
    _fill(network, fitting)
    problems = []
    for name, shape in wanted.items():
        if name not in weights:
            problems.append(f"{name}: not in the file")
        elif name not in fitting:
            problems.append(f"{name}: {weights[name].shape} in the file, {shape} here")
    return problems + [f"{name}: not in this network" for name in weights if name not in wanted]


def _fill(network: nn.Layer, weights: Mapping[str, np.ndarray]) -> None:
    """In each parameter's own type, which in mixed precision is not float32 everywhere.

    Not by `set_state_dict`, which warns of each parameter that is left as it is.
    """
    for name, value in network.state_dict().items():
        if name in weights:
            value.set_value(weights[name].astype(value.numpy().dtype, copy=False))


def compare_shapes(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """What differs between two sets of names with shapes, in words; empty where nothing does."""
    if found and not wanted.keys() & found.keys():
        return f"none of its {len(found)} names belongs to this network: {listed(list(found))}"
    other_shape = [f"{n} {found[n]} instead of {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
    lists = {
        "other shape": other_shape,
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
    }
    return "; ".join(f"{title}: {listed(names)}" for title, names in lists.items() if names)
