"""The one exception that means "the user can mend this", and how its message lists names."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 8  # names of a list that a message gives
LONGEST = 120  # characters of a name in a message


class InputError(ValueError):
    """A mistake in what the program was given: a file, an option, a data set.

    The message is complete and names the file or option and the remedy. The scripts print it as one line and end with
    exit status 2; anything else that is raised is a defect of the program and keeps its traceback.
    """

    status = 2  # that the program ends with


def listed(names: Sequence[str], *, count: int | None = None) -> str:
    """The first few of `names` with commas between, and how many more there are; count: of all, where it is known."""
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(map(shorten, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def shorten(text: str) -> str:
    """A long text without its middle, which of a path says least."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"
