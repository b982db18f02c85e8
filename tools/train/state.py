"""What a run of `train.py` writes so that it can be resumed: weights for use, and a training state beside them."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config.errors import InputError
from data.files import atomic_write, find_temporaries
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.common.safe_pickle import damaged, load_arrays

STATE_VERSION = 1
BEST = "best.pdparams"
_STEP = re.compile(r"step_(\d+)\.pdstate")


@dataclass(frozen=True)
class TrainingState:
    """A run after `step` steps.

    weights: the raw ones; average: their moving average, empty where none is kept; optimizer: see
    tools.train.optimizer.optimizer_arrays; scaler: of the dynamic loss scale. The order of the pictures and everything
    random follow from the seed and the step. evaluation_due: the run stopped before or in the evaluation of this step.
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


def save_state(folder: Path, state: TrainingState, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `step_N.pdparams` and then `step_N.pdstate`; of older pairs the last `keep` stay, with this one."""
    path = folder / f"step_{state.step:07d}.pdstate"
    save_checkpoint(path.with_suffix(".pdparams"), checkpoint)
    with atomic_write(path, durable=True) as temporary, temporary.open("wb") as stream:
        pickle.dump({"state_version": STATE_VERSION, **_plain(state)}, stream, protocol=4)
    for old in [file for file in _newest_first(folder) if _step(file) <= state.step][keep:]:
        for file in (old, old.with_suffix(".pdparams")):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    return path


def remove_leftovers(folder: Path) -> None:
    """What a run that was killed in the middle of a checkpoint left behind under temporary names."""
    for suffix in (".pdstate", ".pdparams"):
        for path in find_temporaries(folder, suffix):
            path.unlink(missing_ok=True)


def _plain(state: TrainingState) -> dict:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(state).items()}


def load_state(path: str | Path) -> TrainingState:
    """Read a training state, given its own path or that of the weights beside it.

    Raises InputError where it is none, is damaged, or was written by a later program.
    """
    path = Path(path).with_suffix(".pdstate")
    try:
        with path.open("rb") as stream:
            content = load_arrays(stream, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --resume takes a step_*.pdstate") from None
    if not isinstance(content, dict) or content.pop("state_version", None) != STATE_VERSION:
        raise InputError(f"{path}: no training state of this program; --resume takes a step_*.pdstate")
    try:
        return TrainingState(**content)
    except TypeError as error:
        raise damaged(path, str(error)) from None


def newest_state(folder: Path) -> tuple[Path, TrainingState, list[str]] | None:
    """The newest state of a run that is whole, and what is wrong with the newer ones; None where there is none."""
    problems = []
    for path in _newest_first(folder):
        try:
            return path, load_state(path), problems
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(f"{folder}: none of its training states is whole: {problems[0]}; start without --resume")
    return None


def newer_states(path: Path) -> list[Path]:
    """The states of the same run after more steps, whole or not."""
    this = _STEP.fullmatch(path.with_suffix(".pdstate").name)
    return [file for file in _newest_first(path.parent) if this and _step(file) > int(this[1])]


def _newest_first(folder: Path) -> list[Path]:
    paths = [path for path in folder.glob("step_*.pdstate") if _STEP.fullmatch(path.name)]
    return sorted(paths, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(_STEP.fullmatch(path.name)[1])
