"""Draw data sets of generated shapes when they are missing."""

from __future__ import annotations

from functools import partial
from os import cpu_count

import numpy as np
from tqdm import tqdm

from config.base import PROJECT, Config, ShapesConfig
from config.errors import printable
from data.shapes import Scene, draw_scene, picture_name, write_data_set
from data.written import check_output_files
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_processes

SPLITS = ("train", "val")  # the index of a split is part of its pictures' seeds


def draw_if_missing(config: Config, split: str, *, world: World = SINGLE_PROCESS) -> None:
    """Draw a split of a config with a generated data set, unless it exists.

    Nothing is drawn to a path that the user set, by option or in a derived config. With several processes, the first
    draws and the others wait.
    """
    path = getattr(config, f"{split}_path")
    owner = next(kind for kind in type(config).__mro__ if "shapes" in vars(kind))
    is_own = path == getattr(owner, f"{split}_path")
    if world.is_first and config.shapes.train_pictures and is_own and not (PROJECT / path).exists():
        draw_split(config, split)
    world.gather(None)


def draw_split(config: Config, split: str) -> None:
    """Draw the pictures of a split, in processes, and write them with their annotations.

    Raises InputError if a file that our programs did not write would be overwritten.
    """
    annotations, folder = PROJECT / getattr(config, f"{split}_path"), PROJECT / getattr(config, f"{split}_pre_path")
    count = getattr(config.shapes, f"{split}_pictures")
    check_output_files([annotations, *(folder / picture_name(number) for number in range(1, count + 1))])
    with worker_processes(cpu_count() or 1) as pool:
        scenes = ordered_map(pool, partial(_draw_scene, config.shapes, SPLITS.index(split)), range(count), ahead=64)
        bar = tqdm(scenes, total=count, unit="picture", desc=printable(f"drawing {folder}"), disable=None)
        write_data_set(bar, annotations, folder)
    print(f"drew {count} pictures into {folder}")


def _draw_scene(shapes: ShapesConfig, split: int, index: int) -> Scene:
    rng = np.random.default_rng([split, index])
    return draw_scene(rng=rng, height=shapes.height, width=shapes.width, diameters=shapes.diameters)
