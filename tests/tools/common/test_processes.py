"""How many processes a training on a CPU is shared by."""

from __future__ import annotations

import pytest

from config import load_config
from config.errors import InputError
from tools.common import processes
from tools.common.processes import shared_training


@pytest.mark.parametrize(
    ("cores", "batch", "expected"), [(1, 2, (1, 2)), (2, 2, (2, 1)), (8, 2, (2, 1)), (4, 6, (3, 2)), (4, 5, (1, 5))]
)
def test_processes_share_the_pictures_of_a_step(monkeypatch, cores, batch, expected):
    monkeypatch.setattr(processes.sys, "platform", "linux")
    monkeypatch.setattr(processes, "CPU_THREADS", cores)
    config = load_config(3, [f"train_cfg.batch_size={batch}"])
    count, shares = shared_training(config)
    settings = load_config(3, shares).train_cfg
    assert (count, *expected) == (settings.processes, settings.processes, settings.batch_size)


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


def test_hundreds_of_processes_are_refused(monkeypatch):
    monkeypatch.setattr(processes.sys, "platform", "linux")
    monkeypatch.setattr(processes, "CPU_THREADS", 2)
    assert shared_training(load_config(20, ["train_cfg.processes=8"])) == (8, [])
    with pytest.raises(InputError, match="processes=9: use at most 8 on 2 threads"):
        shared_training(load_config(20, ["train_cfg.processes=9"]))


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_one_process_takes_the_pictures_of_all_where_several_cannot_train_together(monkeypatch, platform):
    monkeypatch.setattr(processes.sys, "platform", platform)
    config = load_config(20)
    count, shares = shared_training(config)
    settings = load_config(20, shares).train_cfg
    assert (count, settings.processes) == (1, 1)
    assert settings.batch_size == config.train_cfg.processes * config.train_cfg.batch_size
