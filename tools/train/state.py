"""The files that make a run of `train.py` resumable: step_N.pdparams, weights for use, and step_N.pdstate, the rest."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config.errors import InputError
from config.values import is_list_of
from data.files import find_temporaries, open_regular
from tools.common.checkpoint import STATE_SUFFIX, Checkpoint, save_checkpoint
from tools.common.pickle_files import load_content, saving_dict
from tools.common.safe_pickle import DamagedFileError

STATE_VERSION = 1
BEST_CHECKPOINT = "best.pdparams"
_REMEDY = "resume from the state before it with --resume auto, or delete it"
_STEP = re.compile(r"step_(\d+)\.pdstate")


@dataclass(frozen=True)
class TrainingState:
    """The state of a run after `step` steps. The order of the pictures and all randomness follow from seed and step.

    weights: as trained, not averaged; average: their moving average, empty if there is none; optimizer: see
    tools.train.optimizer.optimizer_arrays; scaler: state of the dynamic loss scale; evaluation_due: the run stopped
    before or during the evaluation of this step; train_path, fingerprint: the annotation file, and the fingerprint of
    its TrainingSet; selected_by: what `best_ap` is, `eval_cfg.select_by`; score: `test_cfg.score` of the checkpoints;
    validation: the fingerprint of the pictures that `best_ap` is of; settings: `config.overrides.training_settings` of
    the config; evaluations_since_best: since the one of `best_ap`. States of earlier versions lack the last seven.
    """

    step: int
    config_name: str
    class_names: list[str]
    total_batch: int
    dataset_size: int
    seed: int
    optimizer_name: str
    best_ap: float
    evaluation_due: bool
    weights: Mapping[str, np.ndarray]
    average: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]
    scaler: Mapping[str, float] = field(default_factory=dict)
    train_path: str = ""
    fingerprint: str = ""
    selected_by: str = "ap"
    score: float = 0.0
    validation: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    evaluations_since_best: int = 0


def save_state(folder: Path, state: TrainingState, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `step_N.pdparams` and `step_N.pdstate`, and remove all but the newest `keep` pairs up to this step.

    If the disk is full, neither of them gets its name.
    """
    path = folder / f"step_{state.step:07d}{STATE_SUFFIX}"
    with saving_dict(path, {"state_version": STATE_VERSION, **_to_dict(state)}):
        save_checkpoint(path.with_suffix(".pdparams"), checkpoint)
    for old in [file for file in _newest_first(folder) if _step(file) <= state.step][keep:]:
        for file in (old, old.with_suffix(".pdparams")):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    return path


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote a checkpoint."""
    for suffix in (STATE_SUFFIX, ".pdparams"):
        for path in find_temporaries(folder, suffix):
            path.unlink(missing_ok=True)


def _to_dict(state: TrainingState) -> dict:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(state).items()}


def load_state(path: str | Path) -> TrainingState:
    """Read a training state; path: the `.pdstate` file, or the `.pdparams` file next to it.

    Raises InputError if it cannot be read, is not a training state, is damaged, or has another version.
    """
    given, path = path, Path(path).with_suffix(STATE_SUFFIX)
    try:
        with open_regular(path) as stream:
            content = load_content(stream, path)
    except DamagedFileError as error:
        raise DamagedFileError(path, error.reason, _REMEDY) from None
    except FileNotFoundError:
        raise InputError(
            f"{given}: there is no training state {path.name} in this folder; --resume takes auto or a "
            "step_*.pdstate, --finetune a checkpoint"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --resume takes a step_*.pdstate") from None
    if not isinstance(content, dict) or content.pop("state_version", None) != STATE_VERSION:
        raise InputError(f"{path}: not a training state of this version; --resume takes a step_*.pdstate")
    try:
        state = TrainingState(**content)
    except TypeError as error:
        raise DamagedFileError(path, str(error), _REMEDY) from None
    if invalid := [name for name, is_valid in _VALID.items() if not is_valid(getattr(state, name))]:
        raise DamagedFileError(path, f"has invalid {', '.join(invalid)}", _REMEDY)
    return state


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _are_arrays(value: object) -> bool:
    """Return whether a value is a dict of finite arrays."""

    def is_array(array: object) -> bool:
        return isinstance(array, np.ndarray) and array.dtype.kind in "fiub" and bool(np.isfinite(array).all())

    return isinstance(value, dict) and all(isinstance(name, str) and is_array(array) for name, array in value.items())


_VALID: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("step", "total_batch", "dataset_size", "seed", "evaluations_since_best"), _is_count),
    **dict.fromkeys(("config_name", "optimizer_name", "selected_by"), _is_text),
    **dict.fromkeys(("train_path", "fingerprint", "validation"), _is_text),
    **dict.fromkeys(("best_ap", "score"), _is_number),
    **dict.fromkeys(("weights", "average", "optimizer"), _are_arrays),
    "class_names": lambda value: is_list_of(value, str),
    "evaluation_due": lambda value: isinstance(value, bool),
    "scaler": lambda value: isinstance(value, dict),
    "settings": lambda value: isinstance(value, dict) and is_list_of([*value, *value.values()], str),
}


def newest_state(folder: Path) -> tuple[Path, TrainingState, list[str]] | None:
    """Return the newest complete state of a run, with its path and the problems of newer ones; None without a state.

    Raises InputError if there are states, but none of them is complete.
    """
    problems: list[str] = []
    for path in _newest_first(folder):
        try:
            return path, load_state(path), problems
        except InputError as error:
            problems.append(str(error))
    if problems:
        reason = problems[0].rpartition("; ")[0]  # without its remedy
        raise InputError(
            f"{folder}: no training state in it is complete ({reason}); delete them, or give another --output"
        )
    return None


def newer_states(path: Path) -> list[Path]:
    """Return the states of the same run after more steps, complete or not."""
    this = _STEP.fullmatch(path.with_suffix(".pdstate").name)
    return [file for file in _newest_first(path.parent) if this and _step(file) > int(this[1])]


def _newest_first(folder: Path) -> list[Path]:
    paths = [path for path in folder.glob("step_*.pdstate") if _STEP.fullmatch(path.name)]
    return sorted(paths, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
