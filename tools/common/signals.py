"""The signals that ask a program to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Callable

# Ctrl-C, the end of a cluster's job, and the end of a terminal, which Windows does not signal.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stop_signals_handled(
    handle: Callable[[int, FrameType | None], None] | signal.Handlers, *, restart_calls: bool = False
) -> Iterator[None]:
    """Call `handle` with the number and the frame of each of `STOP_SIGNALS` that arrives during the block.

    A signal that is ignored stays so: `nohup` starts programs that outlive their terminal.
    restart_calls: a system call in which a library waits goes on after the signal. Otherwise it fails, which gloo takes
    for a lost connection.
    """
    caught = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in caught}
    if restart_calls and hasattr(signal, "siginterrupt"):  # Windows lacks it, and such failures
        for number in caught:
            signal.siginterrupt(number, False)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_message(number: int) -> str:
    """Return what a program prints when it ends at this signal."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def stop_status(number: int) -> int:
    """Return the exit status after this signal, the same as a shell states for a program that does not handle it."""
    return 128 + number
