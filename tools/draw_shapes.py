"""Draw the data set of shapes: pictures with exact masks in COCO format, identical on every machine.

    python tools/draw_shapes.py                                  config 20's 11,000 + 200 pictures, in datasets/shapes
    python tools/draw_shapes.py --config=20 -o shapes.train_pictures=500 -o train_path=my/annotations.json \\
        -o train_pre_path=my/images

train.py and eval.py draw missing splits themselves. Files that the programs here did not draw are never overwritten.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from config import load_config
from config.base import PROJECT, Config
from config.errors import InputError
from tools.common.cli import Parser, add_config_options
from tools.dataset.generated import SPLITS, check_settings, draw_split, generated_path


def main() -> int:
    parser = Parser(__doc__)
    add_config_options(parser)
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)
    if not config.shapes.train_pictures:
        raise InputError(f"--config {args.config}: its data set is not a generated one; use config 20")
    _check_paths(config)
    for split in SPLITS:
        draw_split(config, split)
    return 0


def _check_paths(config: Config) -> None:
    """Raise InputError if the splits would be drawn over each other, or over the data set of a derived config."""
    for split in SPLITS:
        fields = [f"{split}_path", f"{split}_pre_path"]
        if sum(getattr(config, field) != getattr(type(config), field) for field in fields) == 1:
            raise InputError(f"{fields[0]} and {fields[1]}: set both, or none of them")
        path, generated = getattr(type(config), fields[0]), generated_path(type(config), split)
        if getattr(config, fields[0]) == generated:
            check_settings(config, split, is_own=True)
        elif getattr(config, fields[0]) == path:
            raise InputError(
                f"config {config.number}: {path} is a data set of its own, not a generated one; use the config that it "
                f"derives from, or give others with -o {fields[0]}=... -o {fields[1]}=..."
            )
    folders = [PROJECT / getattr(config, f"{split}_pre_path") for split in SPLITS]
    if folders[0].resolve() == folders[1].resolve():
        raise InputError("train_pre_path and val_pre_path: are one folder; give each its own, as names would repeat")


if __name__ == "__main__":
    sys.exit(run(main))
