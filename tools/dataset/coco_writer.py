"""What the converters of data sets share: many files in threads, and annotation files that pycocotools has checked."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Callable

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tqdm import tqdm

from config.errors import InputError
from data.class_lists import ClassList
from data.coco_rows import CocoPicture, coco_dict
from data.files import atomic_write
from data.images import ImageError
from tools.common.cli import without_line_breaks
from tools.common.threads import Item, Result, ordered_map, worker_threads

THREADS = 4


class UnusableFileError(InputError):
    """One of many files cannot be converted, which is no reason to stop at the others."""


def convert_files(convert: Callable[[Item], Result], items: Sequence[Item]) -> tuple[list[Result], int]:
    """Call `convert` for each item, several at once, with a progress bar.

    Returns the results in the order of the items, and how many items are not among them because `convert` raised
    UnusableFileError or ImageError; those are named on stderr. Any other error ends the conversion.
    Raises InputError where nothing could be converted.
    """

    def attempt(item: Item) -> Result | InputError:
        try:
            return convert(item)
        except (UnusableFileError, ImageError) as error:
            return error

    with worker_threads(THREADS) as pool:
        outcomes = ordered_map(pool, attempt, items, ahead=2 * THREADS)
        outcomes = list(tqdm(outcomes, total=len(items), unit="file", disable=None))
    results = [outcome for outcome in outcomes if not isinstance(outcome, InputError)]
    print_reasons("skipped", (outcome for outcome in outcomes if isinstance(outcome, InputError)))
    if not results:
        raise InputError(f"none of {len(items)} files could be converted; see the reasons above")
    return results, len(items) - len(results)


def print_reasons(what: str, reasons: Iterable[object]) -> None:
    """One line for each."""
    for reason in reasons:
        print(f"{what} {without_line_breaks(reason)}", file=sys.stderr)


def write_annotations(path: Path, pictures: Sequence[CocoPicture], classes: ClassList) -> None:
    """Write an annotation file, which takes its name only if pycocotools reads it as it was meant."""
    coco = coco_dict(pictures, classes)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(coco), encoding="utf-8")
        check_annotations(temporary)
    print(f"wrote {path}: {len(pictures)} pictures, {len(coco['annotations'])} instances, {len(classes)} classes")


def check_annotations(path: Path) -> None:
    """Raises RuntimeError where pycocotools does not decode every mask of an annotation file to its area."""
    with redirect_stdout(io.StringIO()):  # pycocotools reports to stdout
        coco = COCO(str(path))
    for row in coco.loadAnns(coco.getAnnIds()):
        pixels = int(coco_mask.area(coco.annToRLE(row)))
        if pixels != row["area"]:
            raise RuntimeError(f"annotation {row['id']} has an area of {row['area']} and {pixels} pixels")


def training_options(role: str, annotations: Path, pictures: Path) -> str:
    """The options that make train.py use a data set. role: "train" or "val"; pictures: the folder."""
    paths = {f"{role}_path": annotations, f"{role}_pre_path": pictures}
    return " ".join(f"-o {shlex.quote(f'{field}={path.resolve().as_posix()}')}" for field, path in paths.items())
