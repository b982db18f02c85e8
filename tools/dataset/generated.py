"""Draw data sets of generated shapes when they are missing."""

from __future__ import annotations

from functools import partial
from os import cpu_count

import numpy as np
from tqdm import tqdm

from config.base import PROJECT, Config, ShapesConfig
from config.errors import InputError, printable
from data.shapes import Scene, draw_scene, picture_name, write_data_set
from data.written import check_output_files
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.threads import ordered_map, worker_processes

SPLITS = ("train", "val")  # the index of a split is part of its pictures' seeds


def draw_if_missing(config: Config, split: str, *, world: World = SINGLE_PROCESS) -> None:
    """Draw a split of a config with a generated data set, unless it exists.

    Nothing is drawn to a path that the user set, by option or in a derived config. With several processes, the first
    draws and the others wait. Raises InputError for options of the pictures without a path of their own.
    """
    path, folder = (getattr(config, f"{split}_{field}") for field in ("path", "pre_path"))
    is_own = path == generated_path(type(config), split)
    check_settings(config, split, is_own=is_own)
    is_there = (PROJECT / path).exists() and (PROJECT / folder).exists()
    if world.is_first and config.shapes.train_pictures and is_own and not is_there:
        draw_split(config, split)
    world.gather(None)


def generated_path(config_class: type[Config], split: str) -> str:
    """Return the annotation file of a split in the class that has the generated data set, not one derived from it."""
    owner = next(kind for kind in config_class.__mro__ if "shapes" in vars(kind))
    return getattr(owner, f"{split}_path")


def check_settings(config: Config, split: str, *, is_own: bool) -> None:
    """Raise InputError if options change the pictures of a split, which are drawn with the settings of the config only.

    is_own: whether its paths are those of the config, and not the user's.
    """
    names = f"{split}_pictures", "height", "width", "diameters"
    if changed := [name for name in names if getattr(config.shapes, name) != getattr(type(config).shapes, name)]:
        path = getattr(config, f"{split}_path")
        remedy = (
            f"draw others with tools/draw_shapes.py, with -o {split}_path=... -o {split}_pre_path=..., and give these"
        )
        if not is_own:
            remedy = "leave it out, and give it to tools/draw_shapes.py, which draws the pictures"
        raise InputError(f"-o shapes.{changed[0]}: has no effect on {path}; {remedy}")


def draw_split(config: Config, split: str) -> None:
    """Draw the pictures of a split, in processes, and write them with their annotations.

    Raises InputError if a file that our programs did not write would be overwritten.
    """
    annotations, folder = PROJECT / getattr(config, f"{split}_path"), PROJECT / getattr(config, f"{split}_pre_path")
    count = getattr(config.shapes, f"{split}_pictures")
    check_output_files([annotations], kind="annotations of shapes")
    check_output_files(folder / picture_name(number) for number in range(1, count + 1))
    with worker_processes(cpu_count() or 1, items=count) as pool:
        scenes = ordered_map(pool, partial(_draw_scene, config.shapes, SPLITS.index(split)), range(count), ahead=64)
        bar = tqdm(scenes, total=count, unit="picture", desc=printable(f"drawing {folder}"), disable=None)
        write_data_set(bar, annotations, folder)
    print(f"drew {count} pictures into {folder}")


def _draw_scene(shapes: ShapesConfig, split: int, index: int) -> Scene:
    rng = np.random.default_rng([split, index])
    return draw_scene(rng=rng, height=shapes.height, width=shapes.width, diameters=shapes.diameters)
