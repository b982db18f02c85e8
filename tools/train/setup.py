"""Set up a training from a config: its data, network and output folder; say how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paddle
from filelock import FileLock, Timeout

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData
from data.coco_pictures import fingerprint_of
from data.files import check_writable, missing_folders, remove_empty, write_error
from data.training_set import TrainingSet
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.kinds import build_network, kind_of
from tools.dataset.generated import SPLITS
from tools.dataset.splits import describe_overlap, read_splits, records_to_learn
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.training_ap import mask_ap
from tools.train.log import CURVES_FILE, LOG_FILE, PREDICTIONS_FILE, check_own_files
from tools.train.start import check_same_start, load_start, read_start
from tools.train.state import BEST_CHECKPOINT
from tools.train.trainer import Trainer

LOCK_FILE = ".lock"
NEAR_ZERO = 0.01  # mask AP


@dataclass(frozen=True)
class DataSets:
    """The data sets of a config; validation: None if the config never evaluates during training."""

    training: CocoData
    validation: CocoData | None
    classes: ClassList


def prepare(
    config: Config, folder: Path, *, resume: str | None, finetune: Path | None, world: World, writes: bool
) -> tuple[Trainer, str]:
    """Return a trainer with its starting weights or saved state, and a message that names their file.

    folder: the output folder; writes: whether the training writes to it. resume, finetune: as in `read_start`.
    Raises InputError for a start, data or settings that cannot be used.
    """
    start = read_start(config, folder, resume=resume, finetune=finetune)
    data = read_data_sets(config, world=world)
    trainer = build_trainer(config, data, world=world, folder=folder if writes else None)
    message = load_start(trainer, start, folder)
    check_same_start(trainer)
    return trainer, message


def read_data_sets(config: Config, *, world: World = SINGLE_PROCESS) -> DataSets:
    """Read and check the data sets of a config; the first process prints their sizes and problems.

    Raises InputError if the files disagree, for example in their categories.
    """
    data = read_splits(config, SPLITS if config.train_cfg.eval_every else SPLITS[:1], world=world)
    if world.is_first:
        for split, part in data.items():
            print(f"{split}: {part.pictures} pictures, {part.instances} instances, {len(part.classes)} classes")
            for line in part.problems.lines():
                print(f"  {line}")
        for line in describe_overlap(data):
            print(f"  {line}")
    if "val" in data and not data["val"].instances:
        raise InputError(
            f"{config.val_path}: has no usable instance to evaluate on; give a file with annotations, or train without "
            "evaluations, -o train_cfg.eval_every=0"
        )
    return DataSets(data["train"], data.get("val"), data["train"].classes)


def build_trainer(config: Config, data: DataSets, *, world: World, folder: Path | None) -> Trainer:
    """Build a trainer of a network with random weights; folder: None for a run that writes nothing."""
    config = config.replace(num_classes=len(data.classes))
    paddle.seed(config.train_cfg.seed)
    evaluate, validation = None, ""
    if data.validation and folder:
        validation = fingerprint_of(data.validation.records)
        truth = ground_truth(data.validation) if world.is_first else None
        drawing = folder / PREDICTIONS_FILE
        evaluate = mask_ap(config, data.classes, data.validation.records, truth, world=world, drawing=drawing)
    return Trainer(
        build_network(config),
        TrainingSet(
            records_to_learn(data.training, config),
            config,
            seed=config.train_cfg.seed,
            make_targets=kind_of(config).targets,
        ),
        classes=data.classes,
        world=world,
        folder=folder,
        evaluate=evaluate,
        validation=validation,
    )


@contextmanager
def reserve_folder(folder: Path, *, resumes: bool) -> Iterator[None]:
    """Lock the output folder during the block, so that no other training writes to it.

    Raises InputError if it cannot be written to, another training is running in it, or the new run would overwrite
    another. The system removes the lock of a process that is killed.
    """
    check_writable(folder / LOG_FILE)
    created = missing_folders(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder}: another training is running in it; wait until it has ended, or give another --output"
        ) from None
    except OSError as error:
        raise write_error(folder / LOCK_FILE, error) from error
    with lock:
        has_states = any(folder.glob("step_*.pdstate"))
        has_weights = (folder / BEST_CHECKPOINT).exists() or any(folder.glob("step_*.pdparams"))
        if has_states and not resumes:
            raise InputError(
                f"{folder}: contains a run already; continue it with --resume auto, or give another --output"
            )
        if has_weights and not has_states:
            raise InputError(f"{folder}: contains weights of a run without its states; give another --output")
        check_own_files(folder)
        try:
            yield
        finally:
            if created and {path.name for path in folder.iterdir()} == {LOCK_FILE}:  # refused before the first step
                with suppress(OSError):
                    (folder / LOCK_FILE).unlink()
                remove_empty(created)


def describe_finished(trainer: Trainer, last_step: int | None) -> str:
    """Return what to print if a resumed run has nothing left to do up to `last_step` (default: its end), else ""."""
    last_step = min(last_step or trainer.total_steps, trainer.total_steps)
    if trainer.has_stopped_improving and not trainer.evaluation_due:
        return f"training has already ended early: {_describe_no_gain(trainer)}; continue with -o train_cfg.patience=0"
    if trainer.step < last_step or (trainer.step == last_step and trainer.evaluation_due):
        return ""
    remedy = f"more epochs (-o train_cfg.epochs=N) of {trainer.steps_per_epoch} steps each"
    if last_step < trainer.total_steps:
        remedy = "a larger --max-iters"
    return f"training is already finished: {trainer.step} steps are done and it ends after {last_step}; give {remedy}"


def describe_end(trainer: Trainer, *, stopped: bool, tuned: bool) -> str:
    """Return what to print after a run: its steps and speed, its files, and what to try if it learnt almost nothing.

    tuned: it started from a checkpoint of the user.
    """
    lines = [f"{trainer.step} of {trainer.total_steps} steps, {trainer.speed}"]
    if stopped and trainer.folder:
        lines.append("stopped by a signal; continue with --resume auto and the same options")
    elif trainer.has_stopped_improving and trainer.step < trainer.total_steps:
        lines.append(f"training ended early: {_describe_no_gain(trainer)}; its weights are in {BEST_CHECKPOINT}")
    if trainer.unreadable:
        lines.append(f"{len(trainer.unreadable)} training pictures could not be read and were replaced, see above")
    if trainer.folder:
        drawings = [name for name in (CURVES_FILE, PREDICTIONS_FILE) if (trainer.folder / name).exists()]
        lines.append(f"checkpoints, {', '.join([LOG_FILE, *drawings])} are in {trainer.folder}")
    if trainer.last_ap is not None and trainer.last_ap < NEAR_ZERO:
        rate, epochs = trainer.settings.lr / 2, trainer.settings.epochs * 2
        more = f"more epochs (-o train_cfg.epochs={epochs})"
        lines.append(
            f"mask AP {trainer.last_ap:.3f} is near zero: try another learning rate (-o train_cfg.lr={rate:g})"
            f"{f' or {more}' if tuned else f', {more} or weights to start from (--finetune FILE)'}, and look for "
            "mistakes in the data with tools/check_dataset.py and tools/browse_dataset.py"
        )
    return "\n".join(lines)


def _describe_no_gain(trainer: Trainer) -> str:
    return (
        f"the last {trainer.evaluations_since_best} evaluations are not better than the best one, {trainer.best_ap:.3f}"
    )
