"""Several training processes on this machine's CPU, each with a thread of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from config.errors import InputError

GRACE = 20.0  # seconds in which a process may end by itself when another one has failed


def run_processes(command: Sequence[str], count: int) -> int:
    """Run a Python command `count` times as the members of one training, and return their exit status.

    Two processes of one thread each train twice as fast on two cores as one process with two threads. SIGINT and
    SIGTERM are passed on; the first process that fails ends the others.
    """
    with _free_ports(count) as ports:
        endpoints = [f"127.0.0.1:{port}" for port in ports]
    # What all of them would say is said by the first; another's words count where it alone has failed.
    words = [None, *(tempfile.TemporaryFile() for _ in range(1, count))]  # noqa: SIM115, open as long as they write
    # In a session of their own, because the terminal sends its signals to all processes of a session by itself.
    members = [
        subprocess.Popen(
            [sys.executable, *command],
            env=_environment(rank, endpoints),
            stderr=words[rank],
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        for rank in range(count)
    ]
    received = []

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        for member in members:
            member.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        failed, status = _first_failure(members)
        if failed and not received and members[0].returncode != InputError.status:
            words[failed].seek(0)
            sys.stderr.write(words[failed].read().decode(errors="replace"))
        # The members agree that they were stopped, but not by which signal.
        return 128 + received[0] if received and status > 128 else status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for member in members:
            member.kill()


def _first_failure(members: list[subprocess.Popen]) -> tuple[int, int]:
    """Waits for all: the number and the exit status of the first that did not end well; zeros where all did."""
    running = {member.pid: rank for rank, member in enumerate(members)}
    while running:
        pid, wait_status = os.wait()
        rank = running.pop(pid, None)
        if rank is None:
            continue
        members[rank].returncode = status = os.waitstatus_to_exitcode(wait_status)
        if status:
            others = [members[other] for other in running.values()]
            for other in others:
                other.terminate()
            for other in others:
                with suppress(subprocess.TimeoutExpired):
                    other.wait(GRACE)
            return rank, status if status > 0 else 128 - status
    return 0, 0


def end_with_parent() -> None:
    """Called in a process: it is killed with its parent, which would otherwise leave it behind."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _environment(rank: int, endpoints: Sequence[str]) -> dict[str, str]:
    """What Paddle's launcher tells a process about its place among the others."""
    return {
        **os.environ,
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(endpoints)),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_DISTRI_BACKEND": "gloo",
        "OMP_NUM_THREADS": "1",
        "GLOG_minloglevel": "2",
    }


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
