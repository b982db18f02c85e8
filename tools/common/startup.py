"""Import this module first in every program: it sets up what must come before other imports, and provides `run`."""

from __future__ import annotations

import signal

# Until `run` starts: Ctrl-C during the imports ends the program without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from model import startup as startup
from tools.common.cli import run as run
