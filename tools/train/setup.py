"""Set up a training from a config: its data, network, starting weights and output folder."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paddle
from filelock import FileLock, Timeout

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList, describe_changes
from data.coco import CocoData
from data.files import check_writable, missing_folders, remove_empty, write_error
from data.training_set import TrainingSet
from tools.common.checkpoint import load_checkpoint, load_fitting_weights
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.kinds import build_network, kind_of
from tools.dataset.generated import SPLITS
from tools.dataset.splits import describe_overlap, read_splits, records_to_learn
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.training_ap import mask_ap
from tools.train.log import CURVES_FILE, LOG_FILE, PREDICTIONS_FILE, check_own_files
from tools.train.state import BEST_CHECKPOINT, TrainingState, load_state, newer_states, newest_state
from tools.train.trainer import Trainer

LOCK_FILE = ".lock"
NEAR_ZERO = 0.01  # mask AP
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
class DataSets:
    """The data sets of a config; validation: None if the config never evaluates during training."""

    training: CocoData
    validation: CocoData | None
    classes: ClassList


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
    return DataSets(data["train"], data.get("val"), data["train"].classes)


def build_trainer(config: Config, data: DataSets, *, world: World, folder: Path | None) -> Trainer:
    """Build a trainer of a network with random weights; folder: None for a run that writes nothing."""
    config = config.replace(num_classes=len(data.classes))
    paddle.seed(config.train_cfg.seed)
    evaluate = None
    if data.validation and folder:
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
    )


def start_from(trainer: Trainer, finetune: str | None) -> str:
    """Load the weights that a training starts from into its network; return a message that names them.

    finetune: checkpoint to start from, or None for the config's. Parameters that are not in it stay random.
    """
    config = trainer.config
    if not (finetune or config.train_cfg.model_path):
        return "starting from random weights"
    path = Path(finetune or config.model_path("train_cfg"))
    if not finetune and not path.exists():
        script = IMAGENET_SCRIPTS.get(config.backbone.name)
        convert = f"convert an ImageNet backbone (python convert/{script} FILE), " if script else ""
        raise InputError(
            f"{path}: the checkpoint to start from does not exist; {convert}give another one with --finetune FILE, or "
            "start from random weights with -o train_cfg.model_path="
        )
    checkpoint = load_checkpoint(path)
    problems = load_fitting_weights(trainer.network, checkpoint.weights, path=path)
    if not checkpoint.classes:  # a backbone alone: the rest of the network is expected to be random
        problems = [line for line in problems if line.startswith("backbone.")]
    lines = [f"starting from {path}" + (", except for:" if problems else ""), *(f"  {line}" for line in problems)]
    changes = describe_changes(checkpoint.classes.names, trainer.classes.names)
    if changes and len(checkpoint.classes) == len(trainer.classes):  # otherwise their weights do not fit
        lines.append(f"{path}: each class starts with the weights of the checkpoint's class in its place: {changes}")
    return "\n".join(lines)


def resume(trainer: Trainer, folder: Path, which: str) -> str:
    """Restore a saved state into the trainer; return a message that names it.

    which: a file, or `auto` for the newest complete state in the folder, if there is any.
    """
    if which != "auto":
        path = Path(which)
        if path.parent.resolve() == folder.resolve() and newer_states(path):
            raise InputError(
                f"{path}: {folder} has newer states of the same run; give another --output to branch off, or remove "
                "the newer states"
            )
        problems: list[str] = []
        state = load_state(path)
    else:
        newest = newest_state(folder)
        if newest is None:
            return f"{folder}: has no saved state to resume, starting from scratch"
        path, state, problems = newest
    trainer.restore(state, path=path)
    if not (folder / BEST_CHECKPOINT).exists():  # the run branches off from another folder
        trainer.best_ap = -1.0
    problems += _describe_other_data(trainer, state, path)
    return "\n".join([*problems, f"resuming {path} after step {trainer.step}"])


def _describe_other_data(trainer: Trainer, state: TrainingState, path: Path) -> list[str]:
    """Return a line if the run that is resumed was trained on other data, as far as its state tells."""
    data = trainer.training_set
    if state.dataset_size == len(data) and state.fingerprint in ("", data.fingerprint):
        return []
    before = f"{state.dataset_size} pictures of {state.train_path or 'an unknown file'}"
    now = f"{len(data)} pictures of {trainer.config.train_path}"
    return [
        f"{path}: was trained on other data, {before}; the next steps are trained on {now}"
        f"{', which has changed' if now == before else ''}. If that is not intended, give the former data, or start "
        f"another run with --finetune {path.with_suffix('.pdparams')}"
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
        if (has_states and not resumes) or (not has_states and (folder / BEST_CHECKPOINT).exists()):
            raise InputError(
                f"{folder}: contains a run already; continue it with --resume auto, or give another --output"
            )
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
    if trainer.step < last_step or (trainer.step == last_step and trainer.evaluation_due):
        return ""
    remedy = f"more epochs (-o train_cfg.epochs=N) of {trainer.steps_per_epoch} steps each"
    if last_step < trainer.total_steps:
        remedy = "a larger --max-iters"
    return f"training is already finished: {trainer.step} steps are done and it ends after {last_step}; give {remedy}"


def describe_end(trainer: Trainer) -> str:
    """Return what to print after a run: its steps and speed, its files, and what to try if it learnt almost nothing."""
    lines = [f"{trainer.step} of {trainer.total_steps} steps, {trainer.speed}"]
    if trainer.unreadable:
        lines.append(f"{len(trainer.unreadable)} training pictures could not be read and were replaced, see above")
    if trainer.folder:
        drawings = [name for name in (CURVES_FILE, PREDICTIONS_FILE) if (trainer.folder / name).exists()]
        lines.append(f"checkpoints, {', '.join([LOG_FILE, *drawings])} are in {trainer.folder}")
    if trainer.last_ap is not None and trainer.last_ap < NEAR_ZERO:
        rate, epochs = trainer.settings.lr / 2, trainer.settings.epochs * 2
        lines.append(
            f"mask AP {trainer.last_ap:.3f} is near zero: try another learning rate (-o train_cfg.lr={rate:g}), more "
            f"epochs (-o train_cfg.epochs={epochs}) or weights to start from (--finetune FILE), and look for mistakes "
            "in the data with tools/check_dataset.py and tools/browse_dataset.py"
        )
    return "\n".join(lines)
