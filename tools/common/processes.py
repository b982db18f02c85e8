"""Start several processes of one training on this machine's CPU, which share its cores; refuse forked processes."""

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

from config.base import Config
from config.errors import InputError
from model.startup import CPU_THREADS
from tools.common.output import OutputClosedError
from tools.common.signals import stop_message, stop_signals_handled, stop_status

MOST_PROCESSES = 4  # for each thread
GRACE_PERIOD = 20.0  # seconds in which a process may end by itself after another one has failed


def shared_training(config: Config) -> tuple[int, list[str]]:
    """Return in how many processes train.py learns on a CPU, and the assignments that share the batch among them."""
    settings = config.train_cfg
    if sys.platform != "linux":  # elsewhere Paddle cannot exchange gradients between CPUs
        return 1, _shares(1, settings.batch_size * settings.processes) if settings.processes > 1 else []
    if settings.processes > (most := MOST_PROCESSES * CPU_THREADS):
        raise InputError(f"train_cfg.processes={settings.processes}: use at most {most} on {CPU_THREADS} threads")
    if settings.processes:
        return settings.processes, []
    if config.backbone.norm != "frozen":  # the statistics of a batch norm are those of the pictures in its own process
        return 1, []
    count = max(count for count in range(1, CPU_THREADS + 1) if settings.batch_size % count == 0)
    return count, _shares(count, settings.batch_size // count)


def _shares(count: int, batch_size: int) -> list[str]:
    return [f"train_cfg.processes={count}", f"train_cfg.batch_size={batch_size}"]


def run_processes(command: Sequence[str], count: int) -> int:
    """Run a Python command in `count` processes that train together; return their exit status.

    Two processes of one thread each train faster on two cores than one process with two threads. `STOP_SIGNALS` are
    passed on to all processes; if one fails, the others are ended.
    """
    with _free_ports(count) as ports:
        endpoints = [f"127.0.0.1:{port}" for port in ports]
    # Only the first process prints its messages, because all print the same ones. The messages of another one are kept
    # and printed if it fails alone.
    messages = [None, *(tempfile.TemporaryFile() for _ in range(1, count))]  # noqa: SIM115, open as long as they write
    # Each in a session of its own, because the terminal sends its signals to all processes of its session.
    members = [
        subprocess.Popen(
            [sys.executable, *command],
            env=_environment(rank, endpoints),
            stderr=messages[rank],
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

    try:
        with stop_signals_handled(pass_on):
            failed, status = _first_failure(members)
        first = members[0].returncode
        if not received and first in (InputError.status, OutputClosedError.status):
            return first  # it has named its reason, and the others have ended with it
        output = messages[failed]  # None for the first process
        if output is not None and not received:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace"))
        if not received and (number := -(members[failed].returncode or 0)) > 0:
            lacks_memory = number == signal.SIGKILL
            reason = ", as a system does that lacks memory" if lacks_memory else ""
            remedy = ", or lower train_cfg.batch_size or train_cfg.processes" if lacks_memory else ""
            print(
                f"process {failed + 1} of {count} was ended by signal {number}{reason}; continue with --resume auto"
                f"{remedy}",
                file=sys.stderr,
            )
        if received and first < 0:  # ended by the system before it could print its message
            print(stop_message(received[0]), file=sys.stderr)
        # A member that stops with the others, but has not received the signal itself, ends with the status of SIGTERM.
        return stop_status(received[0]) if received and status > 128 else status
    finally:
        for member in members:
            member.kill()


def _first_failure(members: list[subprocess.Popen]) -> tuple[int, int]:
    """Wait for all processes; return the rank and the exit status of the first one that failed, or (0, 0)."""
    running = {member.pid: rank for rank, member in enumerate(members)}
    while running:
        pid, wait_status = os.wait()
        rank = running.pop(pid, None)
        if rank is None:
            continue
        members[rank].returncode = status = os.waitstatus_to_exitcode(wait_status)
        if status:
            others = [members[other] for other in running.values()]
            if status != 128 + signal.SIGTERM:  # otherwise it has stopped with the others, which save and end too
                for other in others:
                    other.terminate()
            for other in others:
                with suppress(subprocess.TimeoutExpired):
                    other.wait(GRACE_PERIOD)
            return rank, status if status > 0 else 128 - status
    return 0, 0


def _end_with_parent() -> None:
    """Have the calling process killed when its parent ends; Linux only."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _environment(rank: int, endpoints: Sequence[str]) -> dict[str, str]:
    """Return the environment variables that Paddle's launcher sets for the process of this rank."""
    return {
        **os.environ,
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(endpoints)),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_DISTRI_BACKEND": "gloo",
        "OMP_NUM_THREADS": str(max(1, CPU_THREADS // len(endpoints))),
        "GLOG_minloglevel": "2",
    }


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Reserve ports that no program listens on, during the block."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for reserved in sockets:
            reserved.bind(("127.0.0.1", 0))
        yield [reserved.getsockname()[1] for reserved in sockets]
    finally:
        for reserved in sockets:
            reserved.close()


_network_process: int | None = None  # the first process, among this one and its parents, that loaded a network


def refuse_after_fork() -> None:
    """Raise InputError in a process that was forked from one in which this was called before.

    Engines start threads that a forked process lacks: its networks would wait for them forever.
    """
    global _network_process
    _network_process = _network_process or os.getpid()
    if _network_process != os.getpid():
        raise InputError(
            "this process was forked from one that had loaded a network, and networks cannot run in it; create the "
            'predictor only in the process that uses it, or start that one with multiprocessing.get_context("spawn")'
        )
