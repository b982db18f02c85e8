"""Stop signals while a library waits in a system call."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from threading import Thread, Timer, main_thread

import pytest

from tools.common.signals import stop_signals_handled


@pytest.mark.parametrize("restart", [True, False])
def test_a_system_call_goes_on_if_asked_for(restart):
    """A read of the C library, as gloo's: Python's own functions always go on."""
    library = ctypes.CDLL(None, use_errno=True)
    received, buffer = [], ctypes.create_string_buffer(1)
    reader, writer = os.pipe()
    interrupt = Timer(0.2, signal.pthread_kill, (main_thread().ident, signal.SIGTERM))
    answer = Timer(0.6, os.write, (writer, b"x"))
    with stop_signals_handled(lambda number, frame: received.append(number), restart_calls=restart):
        threads: list[Thread] = [interrupt, answer]
        for thread in threads:
            thread.start()
        count = library.read(reader, buffer, 1)
        failure = ctypes.get_errno() if count < 0 else 0
        for thread in threads:
            thread.join()
    os.close(reader)
    os.close(writer)
    assert received == [signal.SIGTERM]
    assert (count, failure) == ((1, 0) if restart else (-1, errno.EINTR))
