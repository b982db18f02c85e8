"""Draw the data set of shapes: pictures with exact masks in COCO form, the same everywhere for the same numbers.

    python tools/draw_shapes.py                                  config 20's 11,000 + 200 pictures, in datasets/shapes
    python tools/draw_shapes.py --config=20 -o shapes.train_pictures=500 -o train_path=my/annotations.json

train.py and eval.py draw what is missing by themselves.
"""

from __future__ import annotations

import sys
from functools import partial
from os import cpu_count
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from config import load_config  # noqa: E402
from config.base import PROJECT, Config, ShapesConfig  # noqa: E402
from config.errors import InputError  # noqa: E402
from data.shapes import Scene, draw_scene, write_coco  # noqa: E402
from tools.cli import Parser, run  # noqa: E402
from tools.distributed import ALONE, World  # noqa: E402
from tools.pipeline import ordered_map, worker_processes  # noqa: E402

SPLITS = ("train", "val")  # the place of a split is the first number of its pictures' seeds


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--config", default=20, metavar="N", help="config that says how many and where (default: 20)")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)
    if not config.shapes.train_pictures:
        raise InputError(f"--config {args.config}: its data set is not drawn; take config 20")
    for split in SPLITS:
        draw(config, split)
    return 0


def provide(config: Config, split: str, *, world: World = ALONE) -> None:
    """Draw a split of a config whose data set is generated, unless it is there.

    Paths that a user gave stay alone, in a config derived from it too. Of several processes one draws, the others wait.
    """
    path = getattr(config, f"{split}_path")
    owner = next(kind for kind in type(config).__mro__ if "shapes" in vars(kind))
    is_own = path == getattr(owner, f"{split}_path")
    if world.is_first and config.shapes.train_pictures and is_own and not (PROJECT / path).exists():
        draw(config, split)
    world.gather(None)


def draw(config: Config, split: str) -> None:
    folder = (PROJECT / getattr(config, f"{split}_path")).parent
    count = getattr(config.shapes, f"{split}_pictures")
    with worker_processes(cpu_count() or 1) as pool:
        scenes = ordered_map(pool, partial(_scene, config.shapes, SPLITS.index(split)), range(count), ahead=64)
        bar = tqdm(scenes, total=count, unit="picture", desc=f"drawing {folder}", disable=None)
        write_coco(scenes=bar, output=folder)
    print(f"drew {count} pictures into {folder}")


def _scene(shapes: ShapesConfig, split: int, index: int) -> Scene:
    rng = np.random.default_rng([split, index])
    return draw_scene(rng=rng, height=shapes.height, width=shapes.width, diameters=shapes.diameters)


if __name__ == "__main__":
    sys.exit(run(main))
