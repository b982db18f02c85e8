"""The rule for types and for misspelt names, the same for a config's file and for the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress


def typed(value: object, *, like: object) -> object:
    """`value` in the type of `like`, its default; raises TypeError where it is of another one.

    A whole number will do for a float, a list or a single item for a tuple. The items of a tuple have the type of the
    default's first one, or are whole numbers where the default is empty.
    """
    if isinstance(like, tuple):
        items = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(typed(item, like=_sample(like)) for item in items)
    if isinstance(like, float) and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    if type(value) is not type(like):
        raise TypeError
    return value


def type_words(like: object) -> str:
    """What `typed` takes for this default, for people."""
    if not isinstance(like, tuple):
        return _TYPE_WORDS.get(type(like), f"a {type(like).__name__}")
    if isinstance(_sample(like), str):
        return "a list of words such as norm,bias"
    return "a list of numbers such as 1,2,3"


_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _sample(like: tuple) -> object:
    return like[0] if like else 0


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """A hint at the known names that are like `word`: those that end with `.word`, or the nearest; or `otherwise`."""
    known = list(known)
    near = [name for name in known if name.endswith(f".{word}")] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {' or '.join(near)}?" if word and near else otherwise
