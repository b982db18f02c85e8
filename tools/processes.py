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
from typing import IO

GRACE = 20.0  # seconds in which a process may end by itself when another one has failed


def run_processes(command: Sequence[str], count: int) -> int:
    """Run a Python command `count` times as the members of one training, and return their exit status.

    Two processes of one thread each train twice as fast on two cores as one process with two threads. SIGINT and
    SIGTERM are passed on; the first process that fails ends the others.
    """
    with _free_ports(count) as ports:
        endpoints = [f"127.0.0.1:{port}" for port in ports]
    # What all of them would say is said by the first; the others' words count where they alone fail.
    words = [None, *(tempfile.TemporaryFile() for _ in range(1, count))]  # noqa: SIM115, open as long as they write
    # In a session of their own, because the terminal sends its signals to all processes of a session by itself.
    members = [
        subprocess.Popen(
            [sys.executable, *command],
            env=_environment(rank, endpoints),
            stderr=words[rank],
            start_new_session=True,
            preexec_fn=_end_with_parent,
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
        status = _status_of(members)
        if members[0].returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            _repeat(words[1:])
        # The members agree that they were stopped, but not by which signal.
        return 128 + received[0] if received and status > 128 else status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for member in members:
            member.kill()


def _repeat(words: Sequence[IO[bytes]]) -> None:
    for stream in words:
        stream.seek(0)
        sys.stderr.write(stream.read().decode(errors="replace"))


def _status_of(members: list[subprocess.Popen]) -> int:
    """Waits for all; 0 where all ended well, otherwise the status of the first that did not."""
    by_pid = {member.pid: member for member in members}
    while by_pid:
        pid, wait_status = os.wait()
        member = by_pid.pop(pid, None)
        if member is None:
            continue
        member.returncode = status = os.waitstatus_to_exitcode(wait_status)
        if status:
            for other in by_pid.values():
                other.terminate()
            for other in by_pid.values():
                with suppress(subprocess.TimeoutExpired):
                    other.wait(GRACE)
            return status if status > 0 else 128 - status
    return 0


def _end_with_parent() -> None:
    """A process whose parent is killed must not train on."""
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
