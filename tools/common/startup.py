"""Import this module first in every program: it sets up what must come before other imports, and provides `run`."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import TracebackType

_PROJECT = Path(__file__).resolve().parent.parent.parent
_PROGRAM = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent

# Until `run` starts: Ctrl-C during the imports of a program ends it without a traceback. Tests and notebooks, which
# import programs, keep their own handler.
_IS_PROGRAM = _PROGRAM in (_PROJECT, _PROJECT / "tools", _PROJECT / "convert")


def _end_without_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the program with one line if a package is not installed; show any other exception as Python does."""
    if (
        not isinstance(error, ModuleNotFoundError)
        or not error.name
        or (_PROJECT / error.name.partition(".")[0]).exists()
    ):
        sys.__excepthook__(kind, error, trace)
        return
    name = Path(sys.argv[0]).name
    print(
        f"{name}: error: the package {error.name} is not installed; pip install '.[cpu]'", file=sys.stderr, flush=True
    )
    os._exit(2)  # Python itself would end with status 1


if _IS_PROGRAM:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _end_without_package

from model import startup as startup
from tools.common import cli

run = partial(cli.run, ends_process=_IS_PROGRAM)
