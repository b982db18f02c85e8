"""Read and write checkpoint files: weights, with the config, classes and source that belong to them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from paddle import nn

from config.base import Config
from config.errors import SHOWN, InputError, listed
from config.overrides import SCORE, foreign_to_networks, override_trained
from config.values import is_list_of
from data.class_lists import ClassList
from data.files import open_regular
from tools.common.pickle_files import load_content, save_dict
from tools.common.safe_pickle import DamagedFileError

FORMAT_VERSION = 1
DIFFERENCES = 10  # names of weights that a message lists at most


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    weights: name of the parameter in our network -> array.
    config_name: the config the weights belong to; empty for a backbone alone.
    overrides: assignments such as `data.resize_by=factor`, by which the program that trained the weights differs from
        the config; they are applied before the user's own.
    source: the origin of the weights, text by key (file, program, SHA-256).
    """

    weights: Mapping[str, np.ndarray]
    classes: ClassList
    config_name: str
    overrides: tuple[str, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)

    def adapt(self, config: Config) -> Config:
        """Return the config with the checkpoint's overrides and number of classes, to run it.

        Raises InputError for overrides that the config cannot have.
        """
        return override_trained(config, self.overrides).replace(num_classes=len(self.classes))


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, as_output: bool = False) -> None:
    """Write a `.pdparams` file: a dict of plain values and arrays, which `paddle.load` reads as well.

    as_output: as `write_output` does, outside of the folders of trainings.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "config_name": checkpoint.config_name,
        "class_names": list(checkpoint.classes.names),
        "category_ids": list(checkpoint.classes.ids),
        "overrides": list(checkpoint.overrides),
        "source": dict(checkpoint.source),
        "weights": {name: np.asarray(array, order="C") for name, array in checkpoint.weights.items()},
    }
    save_dict(path, content, as_output=as_output)


def store_score(path: str | Path, score: float) -> None:
    """Make `score` the `test_cfg.score` of a checkpoint file, or of the one that a link points to.

    Raises InputError as `load_checkpoint` does.
    """
    path = os.path.realpath(path)
    checkpoint = load_checkpoint(path)
    others = [text for text in checkpoint.overrides if not text.startswith(f"{SCORE}=")]
    save_checkpoint(path, replace(checkpoint, overrides=(*others, f"{SCORE}={score:g}")))


STATE_SUFFIX = ".pdstate"  # of training states, which are beside their checkpoints


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without running code from it.

    Raises InputError if it is not a checkpoint of this project, or is damaged.
    """
    foreign = InputError(f"{path}: not a checkpoint of this project; make one with a script in convert/")
    try:
        with open_regular(path) as stream:
            start = stream.read(1)
            if not start:
                raise InputError(f"{path}: is empty; copy or download it again")
            if start != pickle.PROTO:
                raise foreign
            content = load_content(stream, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a checkpoint with --weights (train.py: --finetune)"
        ) from None
    if not isinstance(content, dict) or "format_version" not in content:
        if Path(path).suffix == STATE_SUFFIX:
            raise InputError(f"{path}: is a training state; give the checkpoint beside it, or use --resume")
        raise foreign
    if type(content["format_version"]) is not int or content["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {content['format_version']}, not {FORMAT_VERSION}; update this program"
        )
    invalid = [key for key, is_valid in _CONTENT.items() if not is_valid(content.get(key))]
    if invalid or len(content["class_names"]) != len(content["category_ids"]):
        raise DamagedFileError(path, f"has invalid {', '.join(invalid) or 'class_names and category_ids'}")
    for key in ("class_names", "category_ids"):
        if len(set(content[key])) < len(content[key]):
            raise DamagedFileError(path, f"has {key} that are repeated")
    if other := foreign_to_networks(content["overrides"]):
        raise DamagedFileError(path, f"has overrides that are not part of a network, {listed(other)}")
    return Checkpoint(
        weights=content["weights"],
        classes=ClassList(names=tuple(content["class_names"]), ids=tuple(content["category_ids"])),
        config_name=content["config_name"],
        overrides=tuple(content["overrides"]),
        source=content["source"],
    )


def _dict_of(kind: type) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict) and all(isinstance(key, str) and isinstance(item, kind) for key, item in value.items())
    )


_CONTENT: dict[str, Callable[[object], bool]] = {
    "weights": _dict_of(np.ndarray),
    "class_names": lambda value: is_list_of(value, str),
    "category_ids": lambda value: is_list_of(value, int),
    "config_name": lambda value: isinstance(value, str),
    "overrides": lambda value: is_list_of(value, str),
    "source": _dict_of(str),
}


def load_weights(
    network: nn.Layer,
    weights: Mapping[str, np.ndarray],
    *,
    path: str | Path,
    config_name: str,
    remedy: str = "use the config it was made for",
) -> None:
    """Load weights for every parameter of a network.

    path, config_name, remedy: for the error message.
    Raises InputError that lists the names that are missing, unknown, have another shape or values that are not finite.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    actual = {name: tuple(value.shape) for name, value in weights.items()}
    problems = compare_shapes(expected, actual)
    problems = problems or listed([f"{n} has dtype {a.dtype}" for n, a in weights.items() if a.dtype.kind != "f"])
    if problems:
        raise InputError(f"{path} does not fit config {config_name}: {problems}; {remedy}")
    check_finite(weights, path)
    _set_values(network, weights)


def check_finite(weights: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Raise InputError for weights of the file `path` with values that are not finite, or not in float32."""
    largest = np.finfo(np.float32).max
    if negative := [name for name, array in weights.items() if name.endswith("_variance") and (array < 0).any()]:
        raise InputError(f"{path}: has variances below 0 in {listed(negative)}; give another checkpoint")
    if damaged := [name for name, array in weights.items() if not (np.abs(array) <= largest).all()]:
        raise InputError(
            f"{path}: has values that are not finite numbers in {listed(damaged)}; give another checkpoint"
        )


def load_fitting_weights(network: nn.Layer, weights: Mapping[str, np.ndarray], *, path: str | Path) -> list[str]:
    """Load the weights that have the name and shape of a parameter of the network; the other parameters stay.

    Return a line for each name that does not fit. Raises InputError if no weight fits.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    fitting = {name: array for name, array in weights.items() if expected.get(name) == array.shape}
    if not fitting:
        raise InputError(f"{path}: none of its weights fits this network; give a checkpoint of a similar network")
    _set_values(network, fitting)
    problems = []
    for name, shape in expected.items():
        if name not in weights:
            problems.append(f"{name}: not in the file")
        elif name not in fitting:
            problems.append(f"{name}: {weights[name].shape} in the file, {shape} here")
    return problems + [f"{name}: not in this network" for name in weights if name not in expected]


def _set_values(network: nn.Layer, weights: Mapping[str, np.ndarray]) -> None:
    """Set the parameters that have weights, in each parameter's own dtype (mixed precision has several).

    `set_state_dict` would warn of each parameter that is not set.
    """
    for name, value in network.state_dict().items():
        if name in weights:
            value.set_value(weights[name].astype(value.numpy().dtype, copy=False))


def compare_shapes(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]]) -> str:
    """Describe the differences between two mappings of parameter names to shapes; empty if there are none."""
    if actual and not expected.keys() & actual.keys():
        return f"none of its {len(actual)} names belongs to this network: {listed(list(actual))}"
    both = [name for name in expected if name in actual]
    lists = {
        "other shape": [f"{n} {actual[n]} instead of {expected[n]}" for n in both if actual[n] != expected[n]],
        "missing": [name for name in expected if name not in actual],
        "unknown": [name for name in actual if name not in expected],
    }
    shown = min(SHOWN, DIFFERENCES // max(sum(map(bool, lists.values())), 1))
    return "; ".join(f"{title}: {listed(names, shown=shown)}" for title, names in lists.items() if names)
