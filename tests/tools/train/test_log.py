"""A training shows its losses beside the progress bar, and a line per epoch that fits 80 columns."""

from __future__ import annotations

import re
import sys
import time
from io import StringIO

import pytest

from tools.evaluate.training_ap import MaskAP
from tools.train.log import RunLog, read_log

LOSSES = {f"loss_of_part_{number}": 1.0 for number in range(6)}


class Terminal(StringIO):
    """A text that counts as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 110])
def test_the_losses_leave_place_for_the_bar(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log = RunLog(None, total=1_000_000, first=123_456, evaluation_due=False, every=1, show=True)
    log.bar.dynamic_ncols = lambda _: (columns, 24)
    log.add(123_457, {**LOSSES, "loss": 123.456}, rate=0.01, pictures=2)
    log.close()
    lines = [line.rstrip() for line in re.split(r"[\r\n]", terminal.getvalue()) if "loss" in line]
    assert lines
    for line in lines:
        assert len(line) == columns and line.endswith("loss 123.456]")
        assert len(re.search(r"\|(.*?)\|", line)[1]) >= 10


def test_the_line_of_an_epoch_fits_80_columns(capsys):
    log = RunLog(None, total=100, first=0, evaluation_due=False, every=1000, show=True)
    for step in (1, 2):
        log.add(step, {**LOSSES, "loss": 100.0 * step}, rate=0.00001, pictures=1)
    log.print_summary("epoch 100 of 100", MaskAP(0.5, 0.6))
    log.print_summary("step 1000000 of 1000000", MaskAP(0.5, 0.6))  # no step since then: a resumed evaluation
    log.close()
    first, second = capsys.readouterr().out.splitlines()
    assert (
        re.fullmatch(r"epoch 100 of 100: loss 150\.000, [\d.]+ pictures/s, mask AP 0\.500, AP50 0\.600", first)
        and len(first) <= 80
    )
    assert second == "step 1000000 of 1000000: mask AP 0.500, AP50 0.600"


def test_a_short_and_slow_run_has_its_losses_and_speed(tmp_path, capsys):
    """A step of a large network takes minutes on a slow processor, and a trial has fewer steps than `every`."""
    log = RunLog(tmp_path, total=2, first=0, evaluation_due=False, every=50, show=True)
    for span in log._spans():
        span.start -= 100
    for step in (1, 2):
        log.add(step, {"loss": float(step)}, rate=0.01, pictures=2)
    log.print_summary("step 2 of 2", None)
    log.close()
    (line,) = read_log(tmp_path)
    assert (line["step"], line["loss"]) == (2, 1.5)
    *_, printed = capsys.readouterr().out.splitlines()
    assert printed == "step 2 of 2: loss 1.500, 0.0400 pictures/s"


def test_an_evaluation_is_left_out_of_the_speed_of_the_next_epoch():
    """The line of an epoch is printed within the pause, and the next epoch begins there, not later."""
    log = RunLog(None, total=100, first=0, evaluation_due=False, every=1000, show=False)
    with log.pause():
        sum(range(100_000))  # the evaluation
        log.print_summary("epoch 1 of 9", MaskAP(0.5, 0.6))
    assert log._summary.start < time.perf_counter()
    log.close()
