"""How many annotated pictures does a new task need? Train on 5, 10, 20 and 50, from the nuclei model and from nothing.

    python -m tests.benchmarks.finetuning --output runs/finetuning

The new task is cut out of the nuclei (docs/datasets.md says how to get them): pictures of half the size with dark
objects on a bright background. All trainings take the same number of steps. S is the match score of all validation
pictures, at the score threshold that is best for them.
"""

from __future__ import annotations

from tools.common.startup import run

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from config import load_config
from config.base import PROJECT, Config
from data.class_lists import read_class_list
from data.coco import decode_mask, read_coco
from data.coco_pictures import Annotation, Record
from data.coco_rows import CocoInstance, CocoPicture
from data.images import read_image
from data.written import write_drawing
from tests.support.programs import python_command
from tools.common.cli import Parser, positive_number
from tools.dataset.coco_writer import write_annotations
from tools.dataset.splits import spread_evenly
from tools.train.log import LOG_FILE

COUNTS = 5, 10, 20, 50
SMALLEST = 10  # pixels of an instance of half the size; smaller ones are left out


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--weights", type=Path, default=PROJECT / "weights/solov2_tiny_nuclei.pdparams", metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for pictures and trainings")
    parser.add_argument("--counts", type=positive_number, nargs="+", default=COUNTS, metavar="N", help="of pictures")
    parser.add_argument("--steps", type=positive_number, default=300, help="of each training (default: 300)")
    args = parser.parse_args()
    config = load_config(21)
    classes = read_class_list(config.classes_file)
    output = args.output.resolve()
    train, val = (
        cut_pictures(read_coco(PROJECT / annotations, PROJECT / images).records, config, output / "images")
        for annotations, images in ((config.train_path, config.train_pre_path), (config.val_path, config.val_pre_path))
    )
    write_annotations(output / "val.json", val, classes)
    train = [picture for picture in train if picture.instances]
    rows = []
    for count in args.counts:
        write_annotations(output / f"train_{count}.json", spread_evenly(train, count), classes)
        scores = [train_on(output, count, args.steps, config, start) for start in (args.weights.resolve(), None)]
        rows.append(f"{count:8d}  {scores[0]:17.3f}  {scores[1]:14.3f}")
    print("pictures  S from the nuclei  S from nothing", *rows, sep="\n")
    return 0


def cut_pictures(records: Sequence[Record], config: Config, folder: Path) -> list[CocoPicture]:
    """Write the pictures of the new task to a folder, and return their annotations."""
    pictures = []
    for record in tqdm(records):
        image = 255 - half(read_image(record.path, config.data.stretch))
        path = folder / Path(record.file_name).with_suffix(".png").name
        write_drawing(path, image)
        masks = [half_mask(record, annotation) for annotation in record.annotations]
        instances = [CocoInstance.from_mask("nucleus", mask) for mask in masks if mask.sum() >= SMALLEST]
        pictures.append(CocoPicture(path.name, *image.shape[:2], tuple(instances)))
    return pictures


def half_mask(record: Record, annotation: Annotation) -> np.ndarray:
    """Return the mask at half the size, bool [h, w]."""
    mask = decode_mask(annotation, record.height, record.width).to_full(record.height, record.width)
    return half(mask.astype(np.float32)) > 0.5


def half(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def train_on(folder: Path, count: int, steps: int, config: Config, start: Path | None) -> float:
    """Train on a number of pictures, from a checkpoint or from random weights, and return S."""
    run_folder = folder / f"{'nuclei' if start else 'random'}_{count}"
    step_pictures = config.train_cfg.batch_size * config.train_cfg.processes
    epochs = max(steps * step_pictures // count, 1)
    overrides = {
        "train_path": folder / f"train_{count}.json",
        "train_pre_path": folder / "images",
        "val_path": folder / "val.json",
        "val_pre_path": folder / "images",
        "train_cfg.epochs": epochs,
        "train_cfg.eval_every": epochs,
    }
    options = [f"-o{field}={value}" for field, value in overrides.items()]
    options += [f"--finetune={start}"] if start else []
    subprocess.run(python_command("train.py", "--config=21", "--output", run_folder, *options), cwd=PROJECT, check=True)
    lines = [json.loads(line) for line in (run_folder / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    return next(line["match_s"] for line in reversed(lines) if "match_s" in line)


if __name__ == "__main__":
    sys.exit(run(main))
