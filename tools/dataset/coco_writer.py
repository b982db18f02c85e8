"""Shared code of the data set converters: convert files in threads, write annotation files and check them."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Callable

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tqdm import tqdm

from config.errors import InputError, listed, printable
from data.class_lists import ClassList
from data.coco_rows import CocoPicture, coco_dict
from data.images import ImageError
from data.written import write_output
from tools.common.cli import Parser, fraction, natural_number
from tools.common.threads import Item, Result, ordered_map, worker_threads

THREADS = 4


class UnusableFileError(InputError):
    """A file cannot be converted. It is skipped; the conversion continues with the others."""


def convert_files(convert: Callable[[Item], Result], items: Sequence[Item]) -> tuple[list[Result], int]:
    """Call `convert` for each item in threads, with a progress bar.

    Items for which `convert` raises UnusableFileError or ImageError are skipped and named on stderr. Any other error
    ends the conversion.
    Returns the results in the order of the items and the number of skipped items. Raises InputError if all are skipped.
    """

    def attempt(item: Item) -> Result | InputError:
        try:
            return convert(item)
        except (UnusableFileError, ImageError) as error:
            return error

    with worker_threads(THREADS) as pool:
        converted = ordered_map(pool, attempt, items, ahead=2 * THREADS)
        outcomes = list(tqdm(converted, total=len(items), unit="file", disable=None))
    results = [outcome for outcome in outcomes if not isinstance(outcome, InputError)]
    print_reasons("skipped", (outcome for outcome in outcomes if isinstance(outcome, InputError)))
    if not results:
        raise InputError(f"none of {len(items)} files could be converted; see the reasons above")
    return results, len(items) - len(results)


def print_reasons(what: str, reasons: Iterable[object]) -> None:
    """Print a line for each reason to stderr, starting with `what`."""
    for reason in reasons:
        print(f"{what} {printable(reason)}", file=sys.stderr)


def check_pictures_differ(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise InputError if two annotation files annotate one picture; pairs: of a picture and its annotation file."""
    sources: dict[Path, Path] = {}
    for picture, source in pairs:
        other = sources.setdefault(picture.resolve(), source)
        if other != source:
            raise InputError(f"{other} and {source}: both annotate {picture}; keep one of them")


def print_similar_names(classes: ClassList) -> None:
    """Print a line to stderr if names of classes differ only in upper and lower case, which is often a mistake."""
    groups: dict[str, list[str]] = {}
    for name in classes.names:
        groups.setdefault(name.casefold(), []).append(repr(name))
    if similar := [" and ".join(names) for names in groups.values() if len(names) > 1]:
        remedy = "correct the labels if they are one class"
        print_reasons("doubtful", [f"classes {listed(similar)}: differ only in upper and lower case; {remedy}"])


def write_annotations(path: Path, pictures: Sequence[CocoPicture], classes: ClassList) -> None:
    """Write an annotation file. It gets its name only if pycocotools reads it correctly."""
    coco = coco_dict(pictures, classes)
    with write_output(path, kind="annotations") as temporary:
        temporary.write_text(json.dumps(coco), encoding="utf-8")
        check_annotations(temporary)
    print(f"wrote {path}: {len(pictures)} pictures, {len(coco['annotations'])} instances, {len(classes)} classes")


def check_annotations(path: Path) -> None:
    """Raise RuntimeError if pycocotools decodes a mask of an annotation file to another area than stated."""
    with redirect_stdout(io.StringIO()):  # pycocotools prints to stdout
        coco = COCO(str(path))
    for row in coco.loadAnns(coco.getAnnIds()):
        pixels = int(coco_mask.area(coco.annToRLE(row)))
        if pixels != row["area"]:
            raise RuntimeError(f"annotation {row['id']} has an area of {row['area']} and {pixels} pixels")


def add_split_options(parser: Parser) -> None:
    """Add --val-fraction and --seed."""
    parser.add_argument(
        "--val-fraction", type=_share, default=0, help="share of pictures for validation, below 1 (default: 0)"
    )
    parser.add_argument("--seed", type=natural_number, help="seed of the choice for validation (default: 0)")


def check_split_options(args: argparse.Namespace, parser: Parser) -> None:
    """End the program if there is a seed without a choice; without a seed it is 0."""
    if args.seed is not None and not args.val_fraction:
        parser.error("--seed: is for the choice for validation; add --val-fraction")
    args.seed = args.seed or 0


def _share(text: str) -> float:
    if (share := fraction(text)) == 1:
        raise argparse.ArgumentTypeError("1 leaves no picture to train on")
    return share


def choose_validation(names: Iterable[str], *, share: float, seed: int) -> set[str]:
    """Choose `share` of the pictures for validation, at least one and not all.

    They are the first by a hash of seed and name, so that most of them stay the same when pictures are added.
    Raises InputError if there is only one picture.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{seed} {name}")).digest())
    if len(ranked) < 2:
        raise InputError("--val-fraction: there is only one picture, which cannot be split; omit the option")
    return set(ranked[: min(max(1, round(share * len(ranked))), len(ranked) - 1)])


def split_outputs(output: Path, *, validation: bool) -> dict[str, Path]:
    """Return the files to write by role, "train" or "val". validation: whether there is one, NAME_val.json."""
    return {"train": output, **({"val": _validation_file(output)} if validation else {})}


def _validation_file(output: Path) -> Path:
    return output.with_name(f"{output.stem}_val{output.suffix}")


def write_splits(
    output: Path, pictures: Sequence[CocoPicture], val_names: Collection[str], classes: ClassList, *, folder: Path
) -> None:
    """Write the annotation files of `split_outputs`, and print the options of train.py for them.

    val_names: file names of the pictures for validation; empty for no such file. folder: of the pictures. Raises
    InputError if a file would have no picture.
    """
    outputs = split_outputs(output, validation=bool(val_names))
    chosen = {role: [p for p in pictures if (p.file_name in val_names) == (role == "val")] for role in outputs}
    if empty := [role for role in outputs if not chosen[role]]:
        raise InputError(f"{outputs[empty[0]]}: none of its pictures could be converted, see above; list others")
    for role, path in outputs.items():
        write_annotations(path, chosen[role], classes)
    if "val" not in outputs and (stale := _validation_file(output)).exists():
        print_reasons("stale", [f"{stale}: is of an earlier run; remove it, or write it with --val-fraction"])
    print("train on it with", *(training_options(role, path, folder) for role, path in outputs.items()))


def training_options(role: str, annotations: Path, pictures: Path) -> str:
    """Return the options of train.py for a data set. role: "train" or "val"; pictures: the folder."""
    paths = {f"{role}_path": annotations, f"{role}_pre_path": pictures}
    return " ".join(f"-o {shlex.quote(f'{field}={path.resolve().as_posix()}')}" for field, path in paths.items())
