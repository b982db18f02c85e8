"""The first import of every program: `run` calls its `main`, and importing this module sets up what must come early."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `run` starts: Ctrl-C during the imports ends without a traceback

from model import startup as startup
from tools.common.cli import run as run
