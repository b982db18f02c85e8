"""InputError, the exception for mistakes that the user can correct, and helpers for its message."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 8  # number of names that a message lists
LONGEST = 120  # characters; longer names are shortened


class InputError(ValueError):
    """A mistake in the program's input: a file, an option, a data set.

    The message is one line that names the file or option and the remedy. Programs print it and end with exit status 2.
    Every other exception is a bug in the program and is shown with its traceback.
    """

    status = 2  # exit status of the program


def listed(names: Sequence[str], *, count: int | None = None, shown: int = SHOWN) -> str:
    """Return the first `shown` names, separated by commas, and how many more there are.

    count: the number of all names if `names` are only some of them.
    """
    more = (len(names) if count is None else count) - shown
    return ", ".join(map(shorten, names[:shown])) + (f" and {more} more" if more > 0 else "")


def shorten(text: str) -> str:
    """Return a text of more than LONGEST characters without its middle, the least useful part of a path."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"
