"""Import this module first in every program: it sets up what must come before other imports, and provides `run`."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent.parent
_PROGRAM = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent

# Until `run` starts: Ctrl-C during the imports of a program ends it without a traceback. Tests and notebooks, which
# import programs, keep their own handler.
_IS_PROGRAM = _PROGRAM in (_PROJECT, _PROJECT / "tools", _PROJECT / "convert")
if _IS_PROGRAM:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from model import startup as startup
from tools.common import cli

run = partial(cli.run, ends_process=_IS_PROGRAM)
