"""Several processes exchange values, wait for a late one, and end when one of them fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from tests.support.slow import slow_except_first
from tools.common.processes import GRACE_PERIOD, run_processes

# Runs in each of two processes.
PROGRAM = """
import os, signal, sys, time
import model
from tools.common.cli import run
from tools.common.distributed import join_world

def main():
    world = join_world()
    {body}
    return 0

sys.exit(run(main))
"""


def run_two(tmp_path: Path, capfd, monkeypatch, *body: str) -> tuple[int, str, str]:
    """Run these lines in two processes; return exit status, standard output and standard error."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(body="\n    ".join(body)))
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    status = run_processes([str(program)], 2)
    return status, *capfd.readouterr()


def test_values_are_summed_and_gathered(tmp_path, capfd, monkeypatch):
    body = (
        "assert world.sum([1.0, world.rank]) == [2, 1]",
        "world.wait_for_all()",
        "print(world.gather('ab'[world.rank]))",
    )
    status, output, errors = run_two(tmp_path, capfd, monkeypatch, *body)
    assert (status, output.count("['a', 'b']")) == (0, 2), errors


@pytest.mark.slow
def test_a_process_may_be_late(tmp_path, capfd, monkeypatch):
    """It may be later than the 30 seconds after which Paddle's exchange over CPUs gives up."""
    body = ("if world.rank == 0:", "    time.sleep(35)", "assert world.gather(world.rank) == [0, 1]", "world.sum([1])")
    status, _, errors = run_two(tmp_path, capfd, monkeypatch, *body)
    assert status == 0, errors


@pytest.mark.parametrize("exchange", ["world.sum([1.0])", "world.wait_for_all()"])
@slow_except_first("gone", [1, 0])
def test_an_exited_process_is_an_error_of_one_line(tmp_path, capfd, monkeypatch, exchange, gone):
    body = ("world.wait_for_all()", f"if world.rank == {gone}:", "    os._exit(7)", exchange)
    status, _, errors = run_two(tmp_path, capfd, monkeypatch, *body)
    assert status == 7
    assert "Traceback" not in errors


@pytest.mark.parametrize("failing", [0, 1])
def test_the_failing_process_says_why(tmp_path, capfd, monkeypatch, failing):
    body = (
        "from config.errors import InputError",
        f"if world.rank == {failing}:",
        "    raise InputError('a.jpg: cannot be read')",
        "world.sum([1.0])",
    )
    status, _, errors = run_two(tmp_path, capfd, monkeypatch, *body)
    assert status == 2
    assert errors.count("a.jpg: cannot be read") == 1, errors
    assert "Traceback" not in errors


def test_a_signal_ends_the_processes_while_they_connect(tmp_path, capfd, monkeypatch):
    """The second process never connects, and the first one waits for it when the signal arrives."""
    program, signs = tmp_path / "program.py", [tmp_path / "0", tmp_path / "1"]
    for sign in signs:  # pipes: opening one waits for the other end
        os.mkfifo(sign)
    late = (
        f"rank = os.environ['PADDLE_TRAINER_ID']\nopen(f'{tmp_path}/{{rank}}', 'w')\nrank == '1' and signal.pause()\n"
    )
    program.write_text(PROGRAM.format(body="").replace("def main", f"{late}\ndef main"))
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    sent = []

    def interrupt_when_started() -> None:
        for sign in signs:
            sign.read_bytes()
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = Thread(target=interrupt_when_started, daemon=True)
    interrupting.start()
    status = run_processes([str(program)], 2)
    interrupting.join()
    assert status == 130 and "interrupted" in capfd.readouterr().err
    assert time.monotonic() - sent[0] < GRACE_PERIOD / 2


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_the_system_ends_is_named(tmp_path, capfd, monkeypatch, killed):
    body = ("world.wait_for_all()", f"if world.rank == {killed}:", "    os.kill(os.getpid(), 9)", "world.sum([1.0])")
    status, _, errors = run_two(tmp_path, capfd, monkeypatch, *body)
    assert status == 128 + signal.SIGKILL
    assert f"process {killed + 1} of 2 was ended by signal 9" in errors and "--resume auto" in errors
