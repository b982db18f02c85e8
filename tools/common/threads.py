"""Run work in threads or processes, in order, with bounded memory; handle Ctrl-C; measure the time of stages."""

from __future__ import annotations

import math
import os
import queue
import signal
import socket
import statistics
import sys
import threading
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Callable, TypeVar, cast

from tools.common.output import OutputError
from tools.common.signals import STOP_SIGNALS, stop_message, stop_signals_handled, stop_status

Item = TypeVar("Item")
Result = TypeVar("Result")
MANY_ITEMS = 100  # of a few milliseconds each; a process takes seconds to start


def ordered_map(
    pool: Executor | None, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """Map a function over items in a pool; yield the results in the order of the items.

    ahead: at most this number of items are started whose results have not been taken yet.
    `items` is advanced in the caller's thread, so stages can be chained, and a stage between two of them (the network)
    stays in that thread. An error of the function is raised in place of its result, an error of `items` after the
    results of the items before it; items that have not started are then dropped.
    Without a pool everything happens in the caller's thread, one item after another.
    """
    if pool is None:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    items = iter(items)
    failure = None
    try:
        while True:
            try:
                pending.extend(pool.submit(function, item) for item in islice(items, ahead - len(pending)))
            except Exception as error:
                failure, items = error, iter(())
            if not pending:
                break
            yield pending.popleft().result()
        if failure is not None:
            raise failure
    finally:
        for future in pending:
            future.cancel()


@contextmanager
def read_ahead(items: Iterable[Item], *, ahead: int, newest: bool = False) -> Iterator[Iterator[Item]]:
    """Iterate over items in a thread of its own; yield an iterator over them, which raises the errors of `items`.

    ahead: how many items wait at most. newest: items do not wait for their reader, and the oldest is dropped instead.
    """
    waiting: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                waiting.put(entry, timeout=None if newest else 0.1, block=not newest)
                return
            if newest:
                with suppress(queue.Empty):
                    waiting.get_nowait()

    def read() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put((item, None))
                if stop.is_set():
                    break
            put((None, StopIteration()))
        except BaseException as error:  # raised in the thread that reads
            put((None, error))
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    def take() -> Iterator[Item]:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield cast(Item, item)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()


def worker_threads(count: int) -> AbstractContextManager[Executor | None]:
    """Open a pool of threads, or None for 0. At the end of the block, work that has not started is dropped."""
    return _cancel_at_exit(ThreadPoolExecutor(count) if count else None)


def worker_processes(count: int, *, items: int) -> AbstractContextManager[Executor | None]:
    """Open a pool of processes, or None for 0, for work in Python, which threads would do one after another.

    items: how many there are to work on; for few the pool is None too.
    """
    # Spawned, because a forked process inherits the locks of threads but not the threads. The first item starts them.
    is_worth_it = count and items >= MANY_ITEMS
    return _cancel_at_exit(_ProcessPool(count, _WorkerContext(), _prepare_worker) if is_worth_it else None)


class _ProcessPool(ProcessPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start an item, and workers if needed. Ctrl-C, as all of `STOP_SIGNALS`, waits until they have started.

        In the middle, it would leave a worker that prints a stack, because nobody tells it what to run, or that waits
        for work for ever.
        """
        with _stop_signals_later():
            return super().submit(*args, **kwargs)


@contextmanager
def _stop_signals_later() -> Iterator[None]:
    """Handle signals at the end of the block. To block them is not enough: another thread may receive them."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    received: list[int] = []
    with stop_signals_handled(lambda number, _: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


class _WorkerProcess(SpawnProcess):
    def start(self) -> None:
        """Start the process with the terminal's signals blocked, which are sent to it too: its parent ends it."""
        if not hasattr(signal, "pthread_sigmask"):  # on Windows
            super().start()
            return
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


def _prepare_worker() -> None:
    """Have this worker process end when its parent does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this is a worker
    parent.join()  # returns at once if the parent has ended before this process was ready
    os._exit(1)


@contextmanager
def _cancel_at_exit(pool: Executor | None) -> Iterator[Executor | None]:
    if pool is None:
        yield None
        return
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def exit_on_ctrl_c(seconds: float = 0.5, *, before: Callable[[], None] | None = None) -> Iterator[None]:
    """Let Ctrl-C during the block end the process with status 130 within `seconds`, whatever is being computed.

    before: called just before the end, in another thread.

    The same holds for the others of `STOP_SIGNALS` that the program handles. Python handles signals between two
    operations, and one of Paddle's may take longer than a second. No incomplete file is left under its final name,
    because atomic writes rename complete files. Only the main thread receives signals; in other threads this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        stopped_by = 0
        try:
            while number := receiver.recv(1):  # empty after the end of the block
                if number[0] in STOP_SIGNALS:
                    stopped_by = stopped_by or number[0]
                    receiver.settimeout(seconds)
        except socket.timeout:
            try:
                with suppress(OutputError):  # the terminal may be closed
                    print(stop_message(stopped_by), file=sys.stderr, flush=True)
                if before is not None:
                    before()
            finally:
                os._exit(stop_status(stopped_by))

    previous = signal.set_wakeup_fd(sender.fileno())
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        sender.close()
        watcher.join()
        receiver.close()


class StageTimes:
    """The time of each stage, in milliseconds per picture. Several threads may measure at the same time."""

    def __init__(self) -> None:
        self._milliseconds: dict[str, array[float]] = defaultdict(lambda: array("d"))

    @contextmanager
    def measure(self, stage: str, pictures: int = 1) -> Iterator[None]:
        """Measure the time of the block; the time of a batch is divided evenly among its pictures."""
        start = time.perf_counter()
        yield
        elapsed = (time.perf_counter() - start) * 1000
        self._milliseconds[stage].extend([elapsed / pictures] * pictures)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return median, p95 (95th percentile) and total in milliseconds by stage, in the order of their first use."""
        return {
            stage: {
                "median": statistics.median(values),
                "p95": sorted(values)[math.ceil(len(values) * 0.95) - 1],
                "total": sum(values),
            }
            for stage, values in self._milliseconds.items()
        }

    def table(self) -> str:
        """Format the median and p95 of each stage as text."""
        rows = [f"  {'milliseconds':<12}{'median':>10}{'p95':>10}"]
        rows += [f"  {stage:<12}{row['median']:>10.1f}{row['p95']:>10.1f}" for stage, row in self.summary().items()]
        return "\n".join(rows)
