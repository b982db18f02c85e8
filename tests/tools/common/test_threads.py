"""Work in threads: order, look-ahead, errors, and the measured times of stages."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.programs import children_of, has_ended, python_command
from tools.common.threads import MANY_ITEMS, StageTimes, ordered_map, worker_processes, worker_threads

GUARD = 10  # seconds, after which a test counts as deadlocked


def within_time(work: Callable[[], object]) -> object:
    """Run a function in a thread, so that a deadlock fails this test and does not stop all of them."""
    outcome = {}

    def record() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive(), "hangs"
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


WORKING = """
from tools.common.startup import run

import sys, time

from tools.common.threads import ordered_map, worker_processes

def main():
    with worker_processes(2, items=3000) as pool:
        for _ in ordered_map(pool, time.sleep, [0.02] * 3000, ahead=8):
            print("done", flush=True)

sys.exit(run(main))
"""


@contextmanager
def working(first: str = "") -> Iterator[subprocess.Popen]:
    """Start a program with two worker processes, in a process group as the terminal would; kill it at the end.

    first: Python code that it runs before.
    """
    pipe = subprocess.PIPE
    command = python_command("-c", first + WORKING)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def has_exited(process: subprocess.Popen, seconds: float) -> bool:
    """Wait at most this time; return whether the process has ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def wait_for_children(process: subprocess.Popen) -> list[int]:
    """Wait for the two workers and Python's resource tracker; return their descriptors."""
    while not has_exited(process, 0.005):
        children = children_of(process.pid)
        if len(children) == 3:
            return children
        list(map(os.close, children))
    raise AssertionError(process.stderr.read().decode())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
@pytest.mark.parametrize("works_already", [False, True])
def test_worker_processes_end_with_a_killed_parent(works_already):
    with working() as process:
        children = wait_for_children(process)
        if works_already:
            assert process.stdout.readline() == b"done\n"
    assert all(has_ended(child) for child in children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
@pytest.mark.parametrize("seconds", [0, 0.3, None])
def test_ctrl_c_ends_worker_processes_quietly(seconds):
    """The terminal sends it to all processes. seconds: after the start of the workers; None: after the first result."""
    with working() as process:
        children = wait_for_children(process)
        if seconds is None:
            assert process.stdout.readline() == b"done\n"
        else:
            assert not has_exited(process, seconds)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1].decode()
        assert (process.returncode, errors) == (130, "interrupted\n")
    assert all(has_ended(child) for child in children)


SLOW_START = """
import multiprocessing.util
import sys

def slowly(*args, spawn=multiprocessing.util.spawnv_passfds):
    process = spawn(*args)
    if "spawn_main" in str(args):  # a worker, not the resource tracker; it waits for what it has to run
        print("spawned", flush=True)
        sys.stdin.readline()  # until the signal has been sent
    return process

multiprocessing.util.spawnv_passfds = slowly
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
def test_ctrl_c_waits_until_a_worker_process_has_started():
    with working(SLOW_START) as process:
        assert process.stdout.readline() == b"spawned\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(b"\n", timeout=60)[1] == b"interrupted\n"
        assert process.returncode == 130


class WorkError(Exception):
    """An error that only these tests raise."""


@settings(max_examples=60)
@given(
    count=st.integers(0, 40),
    threads=st.integers(0, 5),
    ahead=st.integers(1, 9),
    efforts=st.lists(st.integers(0, 20_000), min_size=1, max_size=7),
)
def test_order_is_kept_and_only_a_few_items_are_started_ahead(count, threads, ahead, efforts):
    taken, excess = [0], []

    def items():
        for number in range(count):
            if number + 1 - taken[0] > ahead:
                excess.append((number, taken[0]))
            yield number

    def function(number):
        sum(range(efforts[number % len(efforts)]))  # so that they end in another order
        return -number

    def work():
        results = []
        with worker_threads(threads) as pool:
            for result in ordered_map(pool, function, items(), ahead=ahead):
                taken[0] += 1
                results.append(result)
        return results

    assert within_time(work) == [-number for number in range(count)]
    assert not excess


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_an_endless_source_is_streamed(threads):
    begun = []

    def work():
        with worker_threads(threads) as pool:
            results = ordered_map(pool, lambda number: begun.append(number) or number, itertools.count(), ahead=3)
            return list(itertools.islice(results, 5))

    assert within_time(work) == [0, 1, 2, 3, 4]
    assert max(begun) < 5 + 3


@settings(max_examples=40)
@given(
    count=st.integers(1, 30),
    bad=st.integers(0, 29),
    threads=st.integers(0, 4),
    ahead=st.integers(1, 6),
    in_items=st.booleans(),
)
def test_an_error_is_raised_and_the_rest_is_dropped(count, bad, threads, ahead, in_items):
    bad %= count
    begun, results = [], []

    def items():
        for number in range(count):
            if in_items and number == bad:
                raise WorkError(number)
            yield number

    def function(number):
        begun.append(number)
        if not in_items and number == bad:
            raise WorkError(number)
        return number

    def work():
        with worker_threads(threads) as pool:
            results.extend(ordered_map(pool, function, items(), ahead=ahead))

    before = threading.active_count()
    with pytest.raises(WorkError, match=f"^{bad}$"):
        within_time(work)
    assert threading.active_count() <= before
    assert results == list(range(len(results)))
    assert len(results) <= bad
    assert max(begun, default=-1) < bad + max(ahead, 1)
    if not in_items:
        assert results == list(range(bad)), "what came before the error is delivered"


def test_two_stages_in_threads_with_one_of_the_caller_between_them():
    places = {"first": set(), "between": set(), "last": set()}

    def note(stage, value):
        places[stage].add(threading.get_ident())
        return value

    def work():
        here = threading.get_ident()
        with worker_threads(2) as pool:
            first = ordered_map(pool, lambda number: note("first", number), range(20), ahead=4)
            between = (note("between", number * 10) for number in first)
            result = list(ordered_map(pool, lambda number: note("last", number + 1), between, ahead=2))
        return here, result

    here, result = within_time(work)
    assert result == [number * 10 + 1 for number in range(20)]
    assert places["between"] == {here}
    assert here not in places["first"] | places["last"]


def test_an_error_in_each_of_chained_stages_ends_the_chain():
    for faulty in ("first", "between", "last"):

        def stage(name, number, faulty=faulty):
            if name == faulty and number == 7:
                raise WorkError(name)
            return number

        def work(stage=stage):
            with worker_threads(2) as pool:
                first = ordered_map(pool, lambda number: stage("first", number), itertools.count(), ahead=4)
                between = (stage("between", number) for number in first)
                return list(ordered_map(pool, lambda number: stage("last", number), between, ahead=2))

        with pytest.raises(WorkError, match=faulty):
            within_time(work)


def test_dropping_the_generator_drops_what_has_not_begun():
    release, begun = threading.Event(), []

    def function(number):
        begun.append(number)
        if number:
            release.wait(GUARD)
        return number

    def work():
        with ThreadPoolExecutor(1) as pool:
            results = ordered_map(pool, function, range(100), ahead=50)
            assert next(results) == 0
            results.close()
            release.set()

    within_time(work)
    assert len(begun) <= 2  # the first, and the one that the thread was working on


def test_without_threads_everything_happens_here_one_after_another():
    happened = []

    def items():
        for number in range(3):
            happened.append(f"item {number}")
            yield number

    with worker_threads(0) as pool:
        assert pool is None
        for result in ordered_map(pool, lambda number: happened.append(f"work {number}") or number, items(), ahead=0):
            happened.append(f"taken {result}")
    assert happened == [f"{step} {number}" for number in range(3) for step in ("item", "work", "taken")]


@pytest.mark.parametrize("error", [WorkError, KeyboardInterrupt])
def test_leaving_the_block_by_an_error_drops_work_and_leaves_no_thread(error):
    release, begun = threading.Event(), []
    timer = threading.Timer(0.05, release.set)

    def work():
        with worker_threads(2) as pool:
            for number in range(50):
                pool.submit(lambda number=number: begun.append(number) or release.wait(GUARD))
            timer.start()
            raise error

    before = threading.active_count()
    with pytest.raises(error):
        within_time(work)
    timer.join(GUARD)
    assert len(begun) <= 4
    assert threading.active_count() <= before


def test_times_have_median_p95_and_total_in_the_order_in_which_the_stages_began():
    times = StageTimes()
    for stage in ("read", "network", "read"):
        with times.measure(stage):
            pass
    summary = times.summary()
    assert list(summary) == ["read", "network"]
    for row in summary.values():
        assert set(row) == {"median", "p95", "total"}
        assert 0 <= row["median"] <= row["p95"] <= row["total"] < 1000
    assert [line.split()[0] for line in times.table().splitlines()] == ["milliseconds", "read", "network"]


def test_a_batch_counts_once_for_each_of_its_pictures(monkeypatch):
    clock = iter([10.0, 10.2])
    monkeypatch.setattr("tools.common.threads.time.perf_counter", lambda: next(clock))
    times = StageTimes()
    with times.measure("network", pictures=4):
        pass
    assert times.summary()["network"] == {
        "median": pytest.approx(50),
        "p95": pytest.approx(50),
        "total": pytest.approx(200),
    }


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100, 101])
def test_p95_is_the_nearest_rank(monkeypatch, count):
    """The smallest time that at least 95 % of the pictures do not exceed."""
    clock = itertools.chain.from_iterable((0.0, number / 1000) for number in range(count, 0, -1))
    monkeypatch.setattr("tools.common.threads.time.perf_counter", lambda: next(clock))
    times = StageTimes()
    for _ in range(count):
        with times.measure("read"):
            pass
    assert times.summary()["read"]["p95"] == pytest.approx(-(-count * 95 // 100))


def test_what_raises_is_not_timed():
    times = StageTimes()
    with pytest.raises(WorkError), times.measure("read"):
        raise WorkError
    assert times.summary() == {}


def test_times_may_be_measured_from_many_threads():
    times = StageTimes()

    def measure(_):
        with times.measure("draw"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(measure, range(400)))
    assert times.summary()["draw"]["total"] == pytest.approx(sum(times._milliseconds["draw"]))
    assert len(times._milliseconds["draw"]) == 400


def test_few_items_start_no_process():
    with worker_processes(2, items=MANY_ITEMS - 1) as few, worker_processes(0, items=MANY_ITEMS) as none:
        assert few is None and none is None
    with worker_processes(1, items=MANY_ITEMS) as pool:
        assert list(ordered_map(pool, abs, range(-MANY_ITEMS, 0), ahead=8)) == list(range(MANY_ITEMS, 0, -1))
