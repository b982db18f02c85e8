"""The files that make a run of `train.py` resumable: step_N.pdparams, weights for use, and step_N.pdstate, the rest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config.errors import InputError
from data.files import find_temporaries, open_regular
from tools.common.checkpoint import STATE_SUFFIX, Checkpoint, save_checkpoint
from tools.common.pickle_files import load_content, save_dict
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
    its TrainingSet; selected_by: what `best_ap` is, `eval_cfg.select_by`; score: `test_cfg.score` of the checkpoints.
    States of earlier versions lack the last four.
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


def save_state(folder: Path, state: TrainingState, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `step_N.pdparams`, then `step_N.pdstate`, and remove all but the newest `keep` pairs up to this step."""
    path = folder / f"step_{state.step:07d}{STATE_SUFFIX}"
    save_checkpoint(path.with_suffix(".pdparams"), checkpoint)
    save_dict(path, {"state_version": STATE_VERSION, **_to_dict(state)})
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
            f"{given}: there is no training state {path.name} in this folder; --resume takes a step_*.pdstate, "
            "--finetune a checkpoint"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --resume takes a step_*.pdstate") from None
    if not isinstance(content, dict) or content.pop("state_version", None) != STATE_VERSION:
        raise InputError(f"{path}: not a training state of this version; --resume takes a step_*.pdstate")
    try:
        return TrainingState(**content)
    except TypeError as error:
        raise DamagedFileError(path, str(error), _REMEDY) from None


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
