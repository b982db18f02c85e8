"""Types of values and hints for misspelt names, the same for config files and the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress


def as_type_of(default: object, value: object) -> object:
    """Return `value` in the type of `default`; raise TypeError if it has another type.

    An int is converted to a float, a list or a single item to a tuple. The items of a tuple have the type of the
    default's first item; they are ints if the default is empty.
    """
    if isinstance(default, tuple):
        items = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(as_type_of(_first_item(default), item) for item in items)
    if isinstance(default, float) and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    if type(value) is not type(default):
        raise TypeError
    return value


def is_list_of(value: object, kind: type) -> bool:
    """Return whether a value is a list with items of exactly this type."""
    return isinstance(value, list) and all(type(item) is kind for item in value)


def describe_type(default: object) -> str:
    """Return in words what `as_type_of` accepts for this default."""
    if not isinstance(default, tuple):
        return _TYPE_WORDS.get(type(default), f"a {type(default).__name__}")
    if isinstance(_first_item(default), str):
        return "a list of words such as norm,bias"
    return "a list of numbers such as 1,2,3"


_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _first_item(default: tuple) -> object:
    return default[0] if default else 0


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return a hint with the known names that end with `.word`, or the most similar one; else `otherwise`."""
    known = list(known)
    similar = [name for name in known if name.endswith(f".{word}")] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {' or '.join(similar)}?" if word and similar else otherwise
