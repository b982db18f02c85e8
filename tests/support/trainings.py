"""A training whose steps take milliseconds: config 20 with few channels, and a data set of small pictures."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import paddle
from paddle import nn

from config import load_config
from config.base import Config
from data.shapes import draw_scene, write_coco
from tests.support.programs import override_options
from tools.common.distributed import SINGLE_PROCESS
from tools.common.kinds import build_network
from tools.train.log import read_log
from tools.train.setup import build_trainer, read_data_sets
from tools.train.start import load_start, read_start
from tools.train.trainer import Trainer

CONFIG = 20
OVERRIDES = (
    "backbone.stem_channels=8",
    "backbone.stage_channels=8,8,16,16",
    "neck.out_channels=16",
    "mask_feat_head.mid_channels=16",
    "mask_feat_head.out_channels=8",
    "head.channels=16",
    "head.stacked_convs=1",
    "head.num_grids=8,6,4",
    "target.scale_ranges=0,24,18,48,36,2048",
    "data.short_side=64",
    "data.long_side=64",
    "augment.short_sides=()",
    "augment.side_by_epoch=false",
    "train_cfg.batch_size=2",
    "train_cfg.processes=1",
    "train_cfg.epochs=2",
    "train_cfg.warmup_iters=2",
    "train_cfg.log_every=1",
    "train_cfg.eval_every=0",
)
PICTURES = 8


@lru_cache(maxsize=1)
def data_set() -> Path:
    """Return a folder with `annotations.json` and `images`, written once for all tests of a process."""
    folder = Path(mkdtemp(prefix="shapes"))
    scenes = [draw_scene(rng=np.random.default_rng([7, i]), height=64, width=64) for i in range(PICTURES)]
    write_coco(scenes=scenes, output=folder)
    return folder


def damaged_data_set(folder: Path, *names: str) -> Path:
    """Copy the data set into `folder`, and damage these pictures so that only decoding them shows it."""
    shutil.copytree(data_set(), folder)
    for name in names:
        path = folder / "images" / name
        content = path.read_bytes()
        table = content.index(b"\xff\xc4") + 5  # of Huffman codes, with impossible lengths from now on
        path.write_bytes(content[:table] + b"\xff" * 16 + content[table + 16 :])
    return folder


def data_paths(folder: Path | None = None) -> list[str]:
    """Return the overrides that train and evaluate on the data set in `folder` (default: `data_set`)."""
    folder = folder or data_set()
    paths = [f"{split}_path={folder / 'annotations.json'}" for split in ("train", "val")]
    return [*paths, *(f"{split}_pre_path={folder / 'images'}" for split in ("train", "val"))]


def overrides(*more: str, folder: Path | None = None) -> list[str]:
    return [*OVERRIDES, *data_paths(folder), *more]


def options(*more: str, folder: Path | None = None) -> list[str]:
    """Return the overrides of `overrides` and the config as options of a command line."""
    return [f"--config={CONFIG}", *override_options(*overrides(*more, folder=folder))]


def config(*more: str) -> Config:
    return load_config(CONFIG, overrides(*more))


def untrained_network() -> nn.Layer:
    paddle.seed(0)
    return build_network(load_config(CONFIG, OVERRIDES))


def arrays_of(network: nn.Layer) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def trainer(folder: Path | None, *more: str) -> Trainer:
    """Return a trainer of this training; folder: None for a run that writes nothing."""
    settings = config(*more)
    return build_trainer(settings, read_data_sets(settings), world=SINGLE_PROCESS, folder=folder)


def resume(run: Trainer, folder: Path, which: str) -> str:
    return load_start(run, read_start(run.config, folder, resume=which, finetune=None), folder)


def start_from(run: Trainer, checkpoint: str) -> str:
    return load_start(run, read_start(run.config, Path(), resume=None, finetune=checkpoint), Path())


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if "loss" in line]
