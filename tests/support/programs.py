"""Run the project's programs from a test: in this process, which is fast, or in a process of its own."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from config.base import PROJECT
from tools.common.cli import run


class Finished(NamedTuple):
    """The exit status and the printed text of a program that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run_main(main: Callable[[], int], *arguments: object) -> Finished:
    """Run the `main` of a program in this process, as its command line does.

    A user's mistake gives the exit status that the user sees; any other exception passes through.
    """
    out, err = io.StringIO(), io.StringIO()
    program = Path(main.__code__.co_filename).name
    argv = patch.object(sys, "argv", [program, *map(str, arguments)])
    with argv, redirect_stdout(out), redirect_stderr(err):
        try:
            status = run(main)
        except SystemExit as error:  # argparse ends a program so
            status = error.code
    return Finished(status, out.getvalue(), err.getvalue())


def python_command(*arguments: object) -> list[str]:
    """Return the command line that runs this Python with these arguments: `"-c", code` or a file and its options."""
    return [sys.executable, *map(str, arguments)]


def run_python(
    *arguments: object, cwd: Path = PROJECT, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> Finished:
    """Run Python in a process of its own; a program costs about two seconds more there than in `run_main`.

    arguments: as of `python_command`. environment: all variables of the process (default: those of this one).
    """
    done = subprocess.run(
        python_command(*arguments), cwd=cwd, env=environment, timeout=timeout, capture_output=True, text=True
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def override_options(*overrides: str) -> list[str]:
    """Return overrides of a config, such as "nms.score_thr=0.2", as options of a command line."""
    return [word for text in overrides for word in ("-o", text)]


def children_of(pid: int) -> list[int]:
    """Return descriptors of the children of a process; unlike their numbers, they are never reused."""
    descriptors = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            descriptors.append(os.pidfd_open(int(child)))
    return descriptors


def has_ended(process: int, seconds: float = 60) -> bool:
    """Wait for a process, given by its descriptor; return whether it ends in time."""
    ended, _, _ = select.select([process], [], [], seconds)
    os.close(process)
    return bool(ended)
