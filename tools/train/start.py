"""Find what a training starts from, a saved state, a checkpoint or random weights, and load it into the trainer."""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from config import load_config
from config.base import Config, known_fields
from config.errors import InputError, listed
from config.overrides import training_settings
from data.class_lists import describe_changes
from tools.common.checkpoint import Checkpoint, check_finite, load_checkpoint, load_fitting_weights
from tools.train.state import BEST_CHECKPOINT, TrainingState, load_state, newer_states, newest_state
from tools.train.trainer import Trainer

PREPARATION = ("data.stretch", "data.mean", "data.std", "data.bgr")  # of the values of pictures
# The scripts in convert/ that write an ImageNet backbone; some backbones have none.
IMAGENET_SCRIPTS = {
    "resnet18": "torchvision2paddle.py",
    "resnet34": "torchvision2paddle.py",
    "resnet50": "torchvision2paddle.py",
    "resnet101": "torchvision2paddle.py",
    "resnet50_vd": "ssld2paddle.py",
    "vovnet19_ese": "vovnet2paddle.py",
    "vovnet19_ese_slim": "vovnet2paddle.py",
    "vovnet19_ese_slim_dw": "vovnet2paddle.py",
    "vovnet39_ese": "vovnet2paddle.py",
    "vovnet57_ese": "vovnet2paddle.py",
    "vovnet99_ese": "vovnet2paddle.py",
    "mobilenetv2": "mobilenet2paddle.py",
    "mobilenetv3": "ssld2paddle.py",
}


@dataclass(frozen=True)
class Start:
    """The start of a training: the content of a saved state or checkpoint, or random weights if there is no file.

    remarks: lines to print first, about states that are damaged or missing.
    """

    path: Path | None = None
    content: TrainingState | Checkpoint | None = None
    remarks: tuple[str, ...] = ()


def read_start(config: Config, folder: Path, *, resume: str | None, finetune: Path | None) -> Start:
    """Read the saved state or the checkpoint that a training starts from.

    Call it before the data is read, which may take minutes.

    resume: a saved state, or "auto" for the newest complete one in the folder; where it has none, the training starts
    as without the option. finetune: checkpoint to start from (default: the config's).
    Raises InputError if the file cannot be used for this config.
    """
    if not resume:
        return _read_checkpoint(config, finetune)
    if resume == "auto":
        newest = newest_state(folder)
        if newest is None:
            start = _read_checkpoint(config, finetune)
            return replace(start, remarks=(f"{folder}: has no saved state to resume",))
        path, state, problems = newest
    else:
        path, problems = Path(resume), []
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a step_*.pdstate in it, or --resume auto --output {path}")
        state = load_state(path)
        if path.parent.resolve() == folder.resolve() and newer_states(path):
            raise InputError(
                f"{path}: {folder} has newer states of the same run; give another --output to branch off, or remove "
                "the newer states"
            )
        if path.parent.resolve() != folder.resolve() and any(folder.glob("step_*.pdstate")):
            raise InputError(f"{folder}: contains another run than that of {path}; give another --output to branch off")
    if state.config_name != config.name:
        raise InputError(
            f"{path}: the config was {state.config_name} in the saved run and is {config.name} now; resuming needs the "
            "same"
        )
    return Start(path, state, tuple(problems))


def _read_checkpoint(config: Config, finetune: Path | None) -> Start:
    if not (finetune or config.train_cfg.model_path):
        return Start()
    path = finetune or config.model_path("train_cfg")
    if not finetune and not path.exists():
        script = IMAGENET_SCRIPTS.get(config.backbone.name)
        convert = f"convert an ImageNet backbone (python convert/{script} FILE), " if script else ""
        raise InputError(
            f"{path}: the checkpoint to start from does not exist; {convert}give another one with --finetune FILE, or "
            "start from random weights with -o train_cfg.model_path="
        )
    checkpoint = load_checkpoint(path)
    check_finite(checkpoint.weights, path)
    return Start(path, checkpoint)


def load_start(trainer: Trainer, start: Start, folder: Path) -> str:
    """Load the start into the trainer; return a message that names it. folder: the output of the run.

    Raises InputError if a saved state belongs to a run with other settings or classes.
    """
    if start.path is None or start.content is None:
        lines = ["starting from random weights"]
    elif isinstance(start.content, Checkpoint):
        lines = _load_checkpoint(trainer, start.content, start.path)
    else:
        lines = _resume(trainer, start.content, start.path, folder)
    return "\n".join([*start.remarks, *lines])


def _load_checkpoint(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> list[str]:
    """Load the weights that fit; the other parameters stay random."""
    problems = load_fitting_weights(trainer.network, checkpoint.weights, path=path)
    if not checkpoint.classes:  # a backbone alone: the rest of the network is expected to be random
        problems = [line for line in problems if line.startswith("backbone.")]
    lines = [f"starting from {path}" + (", except for:" if problems else ""), *(f"  {line}" for line in problems)]
    changes = describe_changes(checkpoint.classes.names, trainer.classes.names)
    if changes and len(checkpoint.classes) == len(trainer.classes):  # otherwise their weights do not fit
        lines.append(f"{path}: each class starts with the weights of the checkpoint's class in its place: {changes}")
    lines += _describe_other_pictures(trainer.config, checkpoint, path)
    return lines


def _describe_other_pictures(config: Config, checkpoint: Checkpoint, path: Path) -> list[str]:
    """Return a line if the network of a checkpoint got pictures that were prepared in another way."""
    with suppress(InputError):  # its config is gone, or has changed since
        before, now = (known_fields(one) for one in (checkpoint.adapt(load_config(checkpoint.config_name)), config))
        if changed := [f"{name}={before[name]}" for name in PREPARATION if before[name] != now[name]]:
            return [f"{path}: its pictures were prepared in another way: {listed(changed)}"]
    return []


def _resume(trainer: Trainer, state: TrainingState, path: Path, folder: Path) -> list[str]:
    trainer.restore(state, path=path)
    if not (folder / BEST_CHECKPOINT).exists():  # the run branches off from another folder
        trainer.best_ap, trainer.evaluations_since_best = -1.0, 0
    remarks = [*_describe_other_settings(trainer, state, path), *_describe_other_data(trainer, state, path)]
    return [*remarks, f"resuming {path} after step {trainer.step}"]


def _describe_other_settings(trainer: Trainer, state: TrainingState, path: Path) -> list[str]:
    """Return a line if the run was trained with other settings, such as a forgotten `-o`, as far as its state tells."""
    now = training_settings(trainer.config)
    changed = [name for name, value in state.settings.items() if now.get(name, value) != value]
    if not changed:
        return []
    before, after = (", ".join(f"{name}={values[name]}" for name in changed) for values in (state.settings, now))
    return [
        f"{path}: was trained with {before}; the next steps are trained with {after}. If that is not intended, give "
        "the former values with -o"
    ]


def _describe_other_data(trainer: Trainer, state: TrainingState, path: Path) -> list[str]:
    """Return a line each if the resumed run was evaluated or trained on other data, as far as its state tells."""
    lines = []
    if not trainer.has_validation_of(state):
        lines.append(
            f"{path}: was evaluated on other pictures than those of {trainer.config.val_path}, or they have changed; "
            f"the next evaluation chooses a new {BEST_CHECKPOINT}"
        )
    if state.selected_by != (select_by := trainer.config.eval_cfg.select_by):
        lines.append(
            f"{path}: its {BEST_CHECKPOINT} was selected by {state.selected_by} (eval_cfg.select_by); the next "
            f"evaluation chooses a new one by {select_by}"
        )
    data = trainer.training_set
    if state.dataset_size == len(data) and state.fingerprint in ("", data.fingerprint):
        return lines
    before = f"{state.dataset_size} pictures of {state.train_path or 'an unknown file'}"
    now = f"{len(data)} pictures of {trainer.config.train_path}"
    return [
        *lines,
        f"{path}: was trained on other data, {before}; the next steps are trained on {now}"
        f"{', which has changed' if now == before else ''}. If that is not intended, give the former data, or start "
        f"another run with --finetune {path.with_suffix('.pdparams')}",
    ]


def check_same_start(trainer: Trainer) -> None:
    """Check that all processes start from the same step and weights. Raises InputError if they do not."""
    checksum = 0
    for value in trainer.network.state_dict().values():
        checksum = zlib.crc32(value.numpy().tobytes(), checksum)
    starts = trainer.world.gather((trainer.step, checksum))
    if len(set(starts)) > 1:
        raise InputError(
            f"the processes start from different weights (after steps {', '.join(str(step) for step, _ in starts)}); "
            "--output, --resume and --finetune must name the same files on all machines"
        )
