"""What a process tells of its memory: each time a process of its own, whose peak nothing else has raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.base import PROJECT
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


def figures(program: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def test_a_peak_that_is_forgotten():
    first, second = figures(PEAKS)
    assert 150 < first < 300 and second < 50


def test_a_system_that_does_not_say_the_peak_of_a_program_alone(monkeypatch, tmp_path):
    for status in (tmp_path / "none", tmp_path / "status"):
        monkeypatch.setattr(memory, "STATUS", status)
        assert memory.peak_memory() > 50
        (tmp_path / "status").write_text("VmRSS:\t 1 kB\n")


def test_what_nothing_needs_is_given_back():
    kept, left = figures(SMALL_ONES)
    assert kept > 150 and left < 50
