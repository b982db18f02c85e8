"""From a config to a training that can run: data, network, starting weights, and where it all goes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import paddle
from paddle import nn

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData
from data.files import check_writable
from data.training_set import TrainingSet
from model.networks import build_model
from tools.common.checkpoint import load_checkpoint, load_fitting_weights
from tools.common.distributed import SINGLE_PROCESS, World
from tools.dataset.generated import SPLITS
from tools.dataset.splits import read_splits, records_to_learn
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.predict_records import mask_ap
from tools.train.log import LOG
from tools.train.state import BEST, load_state, newer_states, newest_state
from tools.train.trainer import Trainer

BACKBONE_SCRIPTS = {"resnet": "torchvision2paddle.py", "vovnet": "vovnet2paddle.py"}  # by `backbone.kind`


@dataclass(frozen=True)
class DataSets:
    """What a config trains on and is evaluated on; validation: None where the config never asks for it."""

    training: CocoData
    validation: CocoData | None
    classes: ClassList


def read_data_sets(config: Config, *, world: World = SINGLE_PROCESS) -> DataSets:
    """Read and check what a config trains on and is evaluated on, and print what is in it and wrong with it.

    Raises InputError where the files disagree.
    """
    data = read_splits(config, SPLITS if config.train_cfg.eval_every else SPLITS[:1], world=world)
    if world.is_first:
        for split, found in data.items():
            print(f"{split}: {found.pictures} pictures, {found.instances} instances, {len(found.classes)} classes")
            for line in found.problems.lines():
                print(f"  {line}")
    return DataSets(data["train"], data.get("val"), data["train"].classes)


def build_trainer(config: Config, data: DataSets, *, world: World, folder: Path | None) -> Trainer:
    """A trainer with random weights; folder: None for a run that leaves nothing behind."""
    config = config.replace(num_classes=len(data.classes))
    paddle.seed(config.train_cfg.seed)
    evaluate = None
    if data.validation and folder:
        truth = ground_truth(data.validation) if world.is_first else None
        evaluate = mask_ap(config, data.classes, data.validation.records, truth, world=world)
    return Trainer(
        build_model(config),
        TrainingSet(records_to_learn(data.training, config), config, seed=config.train_cfg.seed),
        classes=data.classes,
        world=world,
        folder=folder,
        evaluate=evaluate,
    )


def start_from(network: nn.Layer, config: Config, finetune: str | None) -> str:
    """Fill in the weights that a training starts from, and say in words which; the rest stays random."""
    if not (finetune or config.train_cfg.model_path):
        return "starting from random weights"
    path = Path(finetune or config.model_path("train_cfg"))
    if not finetune and not path.exists():
        raise InputError(
            f"{path}: no such checkpoint to start from; convert an ImageNet backbone (python "
            f"convert/{BACKBONE_SCRIPTS[config.backbone.kind]} FILE), give another one with --finetune FILE, or start "
            "from random weights with -o train_cfg.model_path="
        )
    checkpoint = load_checkpoint(path)
    left = load_fitting_weights(network, checkpoint.weights, path=path)
    if not checkpoint.classes:  # a bare backbone: all the rest is expected to be new
        left = [line for line in left if line.startswith("backbone.")]
    return "\n  ".join([f"starting from {path}" + (", except for:" if left else ""), *left])


def resume(trainer: Trainer, folder: Path, which: str) -> str:
    """Go on with a saved run: `which` is a file, or `auto` for the newest one in the folder, if there is any."""
    if which != "auto":
        path = Path(which)
        if path.parent.resolve() == folder.resolve() and newer_states(path):
            raise InputError(
                f"{path}: its run went on from there; give another --output to branch off, or remove the newer states"
            )
        problems, state = [], load_state(path)
    else:
        found = newest_state(folder)
        if found is None:
            return f"{folder}: nothing to resume, starting anew"
        path, state, problems = found
    trainer.restore(state, path=path)
    if not (folder / BEST).exists():  # the run branches off from another folder
        trainer.best_ap = -1.0
    return "\n".join([*problems, f"resuming {path} after step {trainer.step}"])


def check_same_start(trainer: Trainer) -> None:
    """Raises InputError where the processes of a training do not start from the same step and weights."""
    checksum = 0
    for value in trainer.network.state_dict().values():
        checksum = zlib.crc32(value.numpy().tobytes(), checksum)
    starts = trainer.world.gather((trainer.step, checksum))
    if len(set(starts)) > 1:
        raise InputError(
            f"the processes start from different weights (after steps {', '.join(str(step) for step, _ in starts)}); "
            "--output, --resume and --finetune must name the same files on all machines"
        )


def check_folder(folder: Path, *, resumes: bool) -> None:
    """Raises InputError where the folder cannot be written to, or holds another run that would be overwritten."""
    check_writable(folder / LOG)
    if not resumes and any(folder.glob("step_*.pdstate")):
        raise InputError(f"{folder}: holds a run already; continue it with --resume auto, or give another --output")
