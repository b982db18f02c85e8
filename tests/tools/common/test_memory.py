"""Peak memory and its release, each measured in a process of its own."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests.support.programs import run_python
from tools.common import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")

PEAKS = """
import numpy as np
from config.base import PROJECT
from tools.common.memory import peak_memory, reset_peak_memory

reset_peak_memory()
before = peak_memory()
np.ones(200 << 20, np.uint8)
with_array = peak_memory()
reset_peak_memory()
print(with_array - before, peak_memory() - before)
"""

SMALL_ONES = """
from pathlib import Path
from config.base import PROJECT
from tools.common.memory import release_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

before = resident()
blocks = [bytearray(50_000) for _ in range(4000)]
cycle = [blocks]
cycle.append(cycle)
pin = bytearray(50_000)  # above all of them
del blocks, cycle
kept = resident() - before
release_memory()
print(kept, resident() - before)
"""

FAULTS = """
import resource
from tools.common.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"1" * (100 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = faults(), faults()
keep_memory()
print(*returned, faults(), faults())
"""


def figures(program: str) -> list[float]:
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_peak_memory_after_a_reset():
    first, second = figures(PEAKS)
    assert 150 < first < 300 and second < 50


def test_a_system_without_the_peak_in_proc(monkeypatch, tmp_path):
    for status in (tmp_path / "none", tmp_path / "status"):
        monkeypatch.setattr(memory, "STATUS", status)
        assert memory.peak_memory() > 50
        (tmp_path / "status").write_text("VmRSS:\t 1 kB\n")


@pytest.mark.parametrize(("system", "expected"), [("darwin", 3.0), ("linux", 3 * 1024.0), ("win32", None)])
def test_the_unit_is_that_of_the_system(monkeypatch, tmp_path, system, expected):
    usage = SimpleNamespace(ru_maxrss=3 << 20)
    resource = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: usage)
    monkeypatch.setitem(sys.modules, "resource", None if expected is None else resource)  # None: as if it were missing
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", system)
    assert memory.peak_memory() == expected
    assert memory.format_memory(expected) == ("memory unknown" if expected is None else f"{expected:.0f} MiB")


def test_unused_memory_is_given_back_to_the_system():
    kept, left = figures(SMALL_ONES)
    assert kept > 150 and left < 50


def test_kept_memory_is_used_again():
    first, second, kept, again = figures(FAULTS)
    assert min(first, second, kept) > 10_000 and again < 100  # pages of 4 KiB that the system clears
