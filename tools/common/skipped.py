"""Name and count the pictures and other files that a program skips."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Callable

from tqdm import tqdm

from config.errors import InputError, printable
from data.images import ImageError
from tools.common.threads import Item, Result


def print_skipped(reason: object) -> None:
    """Print a line about a skipped file to stderr, above the progress bars. reason: starts with the file's name."""
    print_note(f"skipped {reason}")


def print_note(note: object) -> None:
    """Print a line to stderr, above the progress bars."""
    tqdm.write(printable(note), file=sys.stderr)


def count_skipped(skipped: int, total: int, inputs: str = "pictures") -> None:
    """Print how many of the inputs were skipped, if any. Raises InputError if all were."""
    if skipped == total:
        raise InputError(f"none of {total} {inputs} could be read; see the reasons above")
    if skipped:
        print(f"{skipped} {inputs} were skipped, see above")


def map_readable(work: Callable[[Item], Result], items: Sequence[Item], *, title: str | None = None) -> list[Result]:
    """Return the results of `work` for items with a picture, without those whose picture cannot be read.

    These are named and counted. title: of the progress bar. Raises InputError if there is no result.
    """
    results = []
    for item in tqdm(items, unit="picture", desc=title, disable=None):
        try:
            results.append(work(item))
        except ImageError as error:
            print_skipped(error)
    count_skipped(len(items) - len(results), len(items))
    return results
