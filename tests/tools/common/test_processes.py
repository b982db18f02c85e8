"""How many processes a training on a CPU is shared by."""

from __future__ import annotations

import pytest

from config import load_config
from tools.common import processes
from tools.common.processes import shared_training


@pytest.mark.parametrize(
    ("cores", "batch", "expected"), [(1, 2, (1, 2)), (2, 2, (2, 1)), (8, 2, (2, 1)), (4, 6, (3, 2)), (4, 5, (1, 5))]
)
def test_processes_share_the_pictures_of_a_step(monkeypatch, cores, batch, expected):
    monkeypatch.setattr(processes.sys, "platform", "linux")
    monkeypatch.setattr(processes, "CPU_THREADS", cores)
    config = load_config(3, [f"train_cfg.batch_size={batch}"])
    count, options = shared_training(config)
    settings = load_config(3, options[1::2]).train_cfg
    assert (count, *expected) == (settings.processes, settings.processes, settings.batch_size)
    assert options[::2] == ["-o"] * 2


@pytest.mark.parametrize(
    ("number", "overrides", "platform", "count"),
    [
        (3, ["train_cfg.processes=4"], "linux", 4),
        (3, ["train_cfg.processes=1"], "linux", 1),
        (3, ["backbone.norm=batch"], "linux", 1),
        (3, [], "darwin", 1),
        (20, [], "linux", 2),
    ],
)
def test_processes_of_their_own(monkeypatch, number, overrides, platform, count):
    monkeypatch.setattr(processes.sys, "platform", platform)
    monkeypatch.setattr(processes, "CPU_THREADS", 8)
    assert shared_training(load_config(number, overrides)) == (count, [])
