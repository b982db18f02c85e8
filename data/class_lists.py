"""Class names and the category ids that a data set gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.errors import InputError, listed
from data.files import read_text


@dataclass(frozen=True)
class ClassList:
    """Names and category ids: class i of the network (0-based) is `names[i]` and category `ids[i]` of the data set."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_class_list(path: str | Path) -> ClassList:
    """Read a text file with one class per line: a name, or a category id, a tab and a name.

    Without ids the classes are categories 1, 2, 3 ... Raises InputError if the file is missing or malformed, or if it
    has a name or an id twice.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot read the class list ({reason}); classes_path must be a UTF-8 text file"
        ) from None
    rows = [line.rpartition("\t") for line in lines if line.strip()]
    if len({bool(tab) for _, tab, _ in rows}) > 1 or not all(name.strip() for _, _, name in rows):
        raise InputError(f"{path}: some lines lack an id or a name; write both on every line, or names only")
    try:
        ids = tuple(int(number) if tab else index for index, (number, tab, _) in enumerate(rows, start=1))
    except ValueError as error:
        raise InputError(f"{path}: {error}; a line is a name, or an integer id, a tab and a name") from None
    names = tuple(name.strip() for _, _, name in rows)
    for what, values in (("name", names), ("id", ids)):
        repeated = sorted({str(value) for value in values if values.count(value) > 1})
        if repeated:
            raise InputError(f"{path}: has the {what} {', '.join(repeated)} more than once; keep it once")
    if not names:
        raise InputError(f"{path}: has no classes; write one class name per line")
    return ClassList(names=names, ids=ids)


def describe_changes(before: Sequence[str], now: Sequence[str]) -> str:
    """Describe how the names of classes differ, such as "class 2 was 'cat' and is 'dog'"; empty if they are equal."""
    if len(before) != len(now):
        return f"there were {len(before)} classes and there are {len(now)}"
    pairs = enumerate(zip(before, now), start=1)
    return listed([f"class {place} was {old!r} and is {new!r}" for place, (old, new) in pairs if old != new])
