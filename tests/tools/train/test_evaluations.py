"""Evaluations during training: the best is kept, they are printed, and each is made once, whatever ends the run."""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import pytest

from config.errors import InputError
from tests.support.coco_results import CAT, annotation, data_set, truth_of
from tests.support.trainings import losses, resume, trainer
from tools.common.checkpoint import load_checkpoint
from tools.evaluate.match_score import match_curve
from tools.evaluate.training_ap import MaskAP
from tools.train.log import read_log
from tools.train.setup import describe_end, describe_finished
from tools.train.state import BEST_CHECKPOINT, newest_state


def test_the_best_is_kept(tmp_path, capsys):
    run = trainer(tmp_path, "train_cfg.eval_every=1")
    answers = iter([MaskAP(0.2, 0.4), MaskAP(0.1, 0.3)])
    run.evaluate = lambda network: next(answers)
    run.run()
    assert load_checkpoint(tmp_path / BEST_CHECKPOINT).source["step"] == "4"
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    expected = ("epoch 1 of 2", "mask AP 0.200, AP50 0.400"), ("epoch 2 of 2", "mask AP 0.100, AP50 0.300")
    for line, (place, scores) in zip(printed, expected):
        assert re.fullmatch(rf"{place}: loss [\d.]+, [\d.]+ pictures/s, {scores}", line) and len(line) <= 80
    assert len(printed) == 2
    assert [(line["mask_ap"], line["mask_ap50"]) for line in read_log(tmp_path) if "mask_ap" in line] == [
        (0.2, 0.4),
        (0.1, 0.3),
    ]
    state = newest_state(tmp_path)[1]
    assert (state.best_ap, state.evaluation_due) == (0.2, False)


def test_the_match_score_selects_if_the_config_says_so(tmp_path, capsys):
    """The second evaluation has the higher S; its threshold is stored. A resumed run knows both."""
    point = match_curve(truth_of(data_set(annotation(1, CAT, (0, 0, 9, 9)))), [], {1})[40]
    settings = "train_cfg.eval_every=1", "eval_cfg.select_by=match"
    answers = iter([MaskAP(0.2, 0.4, point._replace(s=0.5)), MaskAP(0.1, 0.3, point._replace(s=0.6))])
    run = trainer(tmp_path, *settings)
    run.evaluate = lambda network: next(answers)
    run.run()
    best = load_checkpoint(tmp_path / BEST_CHECKPOINT)
    assert best.source["step"] == "8" and "test_cfg.score=0.4" in best.overrides
    assert "mask AP 0.100, S 0.600" in capsys.readouterr().out
    logged = [(line["match_s"], line["score"]) for line in read_log(tmp_path) if "mask_ap" in line]
    assert logged == [(0.5, 0.4), (0.6, 0.4)]
    path, state, _ = newest_state(tmp_path)
    for options, expected in ((settings, (0.6, 0.4)), (settings[:1], (-1.0, 0.3))):
        resumed = trainer(None, *options)
        resumed.restore(state, path=path)
        assert (resumed.best_ap, resumed.config.test_cfg.score) == expected


def test_a_training_that_gains_nothing_ends_early_and_stays_ended(tmp_path):
    settings = ("train_cfg.eval_every=1", "train_cfg.epochs=9", "train_cfg.patience=2")
    answers = iter([0.1, 0.3, 0.3, 0.2, 0.9])
    run = trainer(tmp_path, *settings)
    run.evaluate = lambda network: MaskAP(next(answers), 0.5)
    assert run.run() == 0
    assert (run.step, run.best_ap) == (16, 0.3), "epochs of 4 steps: the best, and two that are not better"
    assert load_checkpoint(tmp_path / BEST_CHECKPOINT).source["step"] == "8"
    assert "ended early: the last 2 evaluations are not better than the best one, 0.300" in describe_end(
        run, stopped=False, tuned=False
    )
    again = trainer(tmp_path, *settings)
    resume(again, tmp_path, "auto")
    assert "already ended early" in describe_finished(again, None)
    patient = trainer(tmp_path, *settings[:2], "train_cfg.patience=3")
    resume(patient, tmp_path, "auto")
    assert describe_finished(patient, None) == ""
    patient.evaluate = run.evaluate
    patient.run(last_step=20)
    assert (patient.best_ap, patient.evaluations_since_best) == (0.9, 0)


def test_without_patience_a_training_goes_on(tmp_path):
    run = trainer(tmp_path, "train_cfg.eval_every=1", "train_cfg.epochs=4")
    run.evaluate = lambda network: MaskAP(0.1, 0.5)
    run.run()
    assert (run.step, run.evaluations_since_best) == (16, 3)


def test_patience_needs_evaluations():
    with pytest.raises(InputError, match="patience=2: counts evaluations, and train_cfg.eval_every=0 makes none"):
        trainer(None, "train_cfg.eval_every=0", "train_cfg.patience=2")


def test_a_line_for_each_epoch_with_the_mean_loss_and_one_for_an_evaluation_in_between(tmp_path, capsys):
    run = trainer(tmp_path, "train_cfg.epochs=3", "train_cfg.eval_every=2")
    run.evaluate = lambda network: MaskAP(0.5, 0.6)
    run.run(last_step=10)
    printed = [line for line in capsys.readouterr().out.splitlines() if not re.match(r"step \d+ of \d+: mask", line)]
    places = [line.partition(":")[0] for line in printed if "pictures/s" in line]
    assert places == ["epoch 1 of 3", "epoch 2 of 3", "step 10 of 12"]
    shown = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in printed if "pictures/s" in line]
    values = losses(tmp_path)
    np.testing.assert_allclose(shown, [np.mean(part) for part in (values[:4], values[4:8], values[8:])], atol=6e-4)
    assert ["AP50" in line for line in printed if "pictures/s" in line] == [False, True, True]


def test_a_training_that_ends_near_zero_says_what_to_try():
    run = trainer(None)
    for ap in (None, 0.3):
        run.last_ap = ap
        assert describe_end(run, stopped=True, tuned=False).count("\n") == 0
    run.last_ap = 0.002
    for tuned in (False, True):
        _, hint = describe_end(run, stopped=False, tuned=tuned).splitlines()
        words = ("0.002", "train_cfg.lr=0.001", "train_cfg.epochs=4", "tools/check_dataset.py")
        assert all(word in hint for word in words) and ("--finetune" in hint) != tuned


def test_an_evaluation_that_was_stopped_is_made_up_for(tmp_path):
    run = trainer(tmp_path, "train_cfg.eval_every=1")

    def interrupted(network):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal ends the evaluation")

    run.evaluate = interrupted
    assert run.run() == signal.SIGTERM
    second = trainer(tmp_path, "train_cfg.eval_every=1")
    resume(second, tmp_path, "auto")
    second.evaluate = lambda network: MaskAP(0.5, 0.6)
    second.run(last_step=second.step + 1)
    assert [line["step"] for line in read_log(tmp_path) if "mask_ap" in line] == [4, 5]


@pytest.mark.parametrize("killed_in", ["evaluate", "save_checkpoint", "save"])
def test_a_run_that_is_killed_in_its_last_evaluation_is_finished_by_resuming(tmp_path, monkeypatch, killed_in):
    """Kill it during the evaluation, before `best.pdparams` is written, and before the state is written again."""

    class KilledError(Exception):
        pass

    def kill(*_):
        raise KilledError

    first = trainer(tmp_path, "train_cfg.eval_every=2")
    first.evaluate = lambda network: MaskAP(0.5, 0.6)
    if killed_in == "evaluate":
        first.evaluate = kill
    elif killed_in == "save_checkpoint":
        monkeypatch.setattr("tools.train.trainer.save_checkpoint", kill)
    else:
        save = first.save
        monkeypatch.setattr(first, "save", lambda: save() if first.evaluation_due else kill())
    with pytest.raises(KilledError):
        first.run()
    monkeypatch.undo()
    evaluations = []
    for _ in range(3):
        run = trainer(tmp_path, "train_cfg.eval_every=2")
        run.evaluate = lambda network: evaluations.append(network) or MaskAP(0.5, 0.6)
        resume(run, tmp_path, "auto")
        run.run()
        state = newest_state(tmp_path)[1]
        assert (state.step, state.best_ap, state.evaluation_due) == (8, 0.5, False)
        assert [line["step"] for line in read_log(tmp_path) if "mask_ap" in line] == [8]
        assert load_checkpoint(tmp_path / BEST_CHECKPOINT).source["step"] == "8"
    assert len(evaluations) == 1


def test_evaluation_uses_the_average_and_gives_the_weights_back(tmp_path):
    run = trainer(tmp_path, "train_cfg.eval_every=1")
    seen = {}

    def evaluate(network):
        seen.update({name: value.numpy() for name, value in network.state_dict().items()})
        assert not network.training
        return MaskAP(0.5, 0.6)

    run.evaluate = evaluate
    run.run(last_step=4)
    state = newest_state(tmp_path)[1]
    differ = [name for name in seen if not np.array_equal(state.average[name], state.weights[name])]
    assert differ
    for name, value in seen.items():
        np.testing.assert_array_equal(value, state.average[name])
    for name, value in run.network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state.weights[name])
