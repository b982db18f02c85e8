"""Convert polygons in YOLO's format to a COCO annotation file.

    python tools/yolo2coco.py cells/data.yaml --output datasets/cells.json
    python tools/yolo2coco.py cells/data.yaml --output datasets/cells.json --val-fraction 0.1

Reads the pictures of train and val in data.yaml, and the labels beside them: the folder "labels" instead of "images".
A line is one instance: class x1 y1 x2 y2 ... in shares of the sides. Boxes and lines that do not fit are named and left
out. The pictures of val are written to NAME_val.json, except those that train names too. With --val-fraction all
pictures are split instead. Finally the options of train.py for the result are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tools.common.startup import run

import os
from importlib.util import find_spec
from itertools import chain

from config.errors import InputError
from data.coco_rows import CocoPicture
from data.files import common_folder
from data.written import check_output_files
from tools.common.cli import Parser
from tools.dataset.coco_writer import (
    add_split_options,
    check_pictures_differ,
    check_split_options,
    choose_validation,
    convert_files,
    print_reasons,
    split_outputs,
    write_splits,
)
from tools.dataset.yolo_files import SPLITS, YoloData, labels_of, read_data_yaml, read_labels


def read_split(data: YoloData, *, share: float, seed: int) -> tuple[list[Path], set[Path]]:
    """Return the absolute paths of all pictures, and of those for validation."""
    absolute = {
        split: [Path(os.path.abspath(path)) for path in data.pictures.get(split, [])]  # noqa: PTH100 (keeps links)
        for split in SPLITS
    }
    pictures = list(dict.fromkeys(chain(*absolute.values())))
    if share:
        chosen = choose_validation(map(str, pictures), share=share, seed=seed)
        return pictures, {path for path in pictures if str(path) in chosen}
    val = set(absolute["val"]) - set(absolute["train"])
    return pictures, val if len(val) < len(pictures) else set()


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DATA.yaml", help="description of the data set")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="COCO file to write")
    add_split_options(parser)
    args = parser.parse_args(argv)
    check_split_options(args, parser)
    if find_spec("yaml") is None:
        raise InputError("reading data.yaml needs the package PyYAML; pip install pyyaml")
    data = read_data_yaml(args.data)
    paths, val = read_split(data, share=args.val_fraction, seed=args.seed)
    outputs = split_outputs(args.output, validation=bool(val)).values()
    check_output_files(outputs, read=[args.data], kind="annotations")
    check_pictures_differ((labels_of(path), path) for path in paths)
    found, skipped = convert_files(lambda path: read_labels(path, data.classes), paths)
    left_out = list(chain.from_iterable(item.left_out for item in found))
    print_reasons("left out", left_out)
    print(
        f"read {len(found)} pictures, {sum(not item.instances for item in found)} of them without instances; skipped "
        f"{skipped}; left out {len(left_out)} lines"
    )
    if not any(item.instances for item in found):
        raise InputError(f"{args.data}: none of {len(found)} pictures has an instance in {labels_of(found[0].picture)}")
    folder = common_folder(item.picture.parent for item in found)
    pictures = [CocoPicture(item.picture.relative_to(folder).as_posix(), *item.size, item.instances) for item in found]
    val_names = {path.relative_to(folder).as_posix() for path in val if path.is_relative_to(folder)}
    write_splits(args.output, pictures, val_names, data.classes, folder=folder)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
