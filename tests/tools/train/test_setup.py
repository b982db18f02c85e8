"""What is said before a training starts: about its data, and about the weights and the state it continues from."""

from __future__ import annotations

from tests.support import trainings
from tools.train.setup import read_data_sets


def test_validation_pictures_that_are_trained_on_are_named_once(capsys):
    read_data_sets(trainings.config("train_cfg.eval_every=1"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "are also in" in line]
    assert len(lines) == 1 and lines[0].startswith("  8 of 8 pictures of ")
    read_data_sets(trainings.config())
    assert "are also in" not in capsys.readouterr().out
