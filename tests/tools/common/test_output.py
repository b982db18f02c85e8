"""Programs whose output cannot be written end with one line, or quietly if nobody reads it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from config.base import PROJECT
from tests.support.programs import python_command

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")

BEGINNING = "import sys\nfrom tools.common.cli import run\n"
PRINTS = f"{BEGINNING}sys.exit(run(lambda: print('a', flush=True) or 0))"
BUFFERED = f"{BEGINNING}sys.exit(run(lambda: print('a') or 0))"
WARNS = f"{BEGINNING}sys.exit(run(lambda: print('a', file=sys.stderr) or 0))"
FAILS = f"{BEGINNING}from config.errors import InputError\ndef main():\n  raise InputError('b')\nsys.exit(run(main))"


def run_code(code: str, **streams: object) -> tuple[int, str | None]:
    done = subprocess.run(python_command("-c", code), cwd=PROJECT, text=True, timeout=60, **streams)
    return done.returncode, done.stderr


@pytest.mark.parametrize("code", [PRINTS, BUFFERED])
def test_a_full_disk_is_one_line(code):
    with Path("/dev/full").open("w") as full:
        status, error = run_code(code, stdout=full, stderr=subprocess.PIPE)
    assert status == 2
    assert error == (
        "-c: error: standard output: cannot be written (No space left on device); free disk space or give another "
        "path\n"
    )


@pytest.mark.parametrize("code", [PRINTS, BUFFERED, WARNS, FAILS])
def test_a_full_disk_of_both_outputs_ends_with_status_2(code):
    with Path("/dev/full").open("w") as full:
        assert run_code(code, stdout=full, stderr=full)[0] == 2


@pytest.mark.parametrize("code", [PRINTS, BUFFERED, WARNS])
def test_a_closed_output_ends_the_program_quietly(code):
    reader, writer = os.pipe()
    os.close(reader)
    if code != WARNS:
        assert run_code(code, stdout=writer, stderr=subprocess.PIPE) == (141, "")
    assert run_code(code, stdout=writer, stderr=writer)[0] == 141
    os.close(writer)


def test_printed_help_needs_room_too():
    with Path("/dev/full").open("w") as full:
        command = python_command("demo.py", "--list")
        done = subprocess.run(command, cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("demo.py: error: standard output: cannot be written (No space left on device)")
