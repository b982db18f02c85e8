"""InputError, the exception for mistakes that the user can correct, and helpers for printed texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHOWN = 8  # number of names that a message lists
LONGEST = 120  # characters; longer names are shortened
# Codes that change the terminal or the order of the letters, and halves of characters, which UTF-8 cannot encode.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


def printable(text: object) -> str:
    """Return a text in one line and without control characters; names of files and classes may contain both."""
    return escape_controls(" ".join(str(text).splitlines()))


def escape_controls(text: str) -> str:
    """Replace control characters, except tabs and line feeds, by escapes such as \\x1b.

    A byte of a file name that is not UTF-8 becomes an escape too.
    """
    return _CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    is_byte = "\udc80" <= match[0] <= "\udcff"  # how Python stores it in a file name
    return f"\\x{ord(match[0]) - 0xDC00:02x}" if is_byte else match[0].encode("unicode_escape").decode()
