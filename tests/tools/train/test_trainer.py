"""The training loop: it learns, it resumes bit for bit, it stops where it must, and it never loses a checkpoint."""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import threading
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import paddle
import pytest

from config.errors import InputError
from tests.support import trainings
from tests.support.trainings import losses, resume, start_from, trainer
from tools.common.checkpoint import load_checkpoint
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.output import OutputError, OutputStream
from tools.common.signals import STOP_SIGNALS
from tools.evaluate.training_ap import MaskAP
from tools.train.setup import build_trainer, read_data_sets, reserve_folder
from tools.train.start import check_same_start
from tools.train.state import BEST_CHECKPOINT, load_state, newest_state


def test_it_learns(tmp_path):
    assert trainer(tmp_path, "train_cfg.epochs=12", "train_cfg.autoscale_lr=false", "train_cfg.lr=0.01").run() == 0
    values = losses(tmp_path)
    assert len(values) == 12 * trainings.PICTURES // 2
    assert np.mean(values[-4:]) < 0.75 * np.mean(values[:4])


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train_cfg.optimizer=momentum", "train_cfg.schedule=piecewise", "train_cfg.milestones=1"),
        ("train_cfg.optimizer=adam", "train_cfg.ema_decay=0", "train_cfg.clip_norm=0"),
        ("train_cfg.accumulate=2", "train_cfg.epochs=4", "head.drop_block=true", "augment.mixup=0.5"),
        ("train_cfg.workers=0",),
    ],
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, overrides):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(whole, *overrides).run()
    trainer(parts, *overrides).run(last_step=3)
    second = trainer(parts, *overrides)
    assert "after step 3" in resume(second, parts, "auto")
    second.run()
    assert losses(parts) == losses(whole)
    expected, found = newest_state(whole)[1], newest_state(parts)[1]
    for part in ("weights", "average", "optimizer"):
        assert getattr(found, part).keys() == getattr(expected, part).keys()
        for name, array in getattr(expected, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array, err_msg=f"{part} {name}")


def test_damaged_pictures_do_not_end_a_run_and_it_resumes_bit_for_bit(tmp_path, capsys):
    folder = trainings.damaged_data_set(tmp_path / "damaged", "000002.jpg", "000005.jpg")
    paths = trainings.data_paths(folder)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = trainer(whole, *paths)
    first.run()
    lines = capsys.readouterr().err.splitlines()
    for name in ("000002.jpg", "000005.jpg"):
        assert [f"skipped {folder}/images/{name}: damaged JPEG" in line for line in lines].count(True) == 1
    assert len(first.unreadable) == 2
    trainer(parts, *paths).run(last_step=3)
    second = trainer(parts, *paths)
    resume(second, parts, "auto")
    second.run()
    assert losses(parts) == losses(whole)


def test_threads_do_not_change_what_is_learnt(tmp_path):
    for workers in (0, 1, 5):
        trainer(tmp_path / str(workers), f"train_cfg.workers={workers}", "augment.crop=0.5").run(last_step=4)
    assert losses(tmp_path / "0") == losses(tmp_path / "1") == losses(tmp_path / "5")


def test_another_seed_is_another_run(tmp_path):
    for seed in (0, 1):
        trainer(tmp_path / str(seed), f"train_cfg.seed={seed}").run(last_step=2)
    assert losses(tmp_path / "0") != losses(tmp_path / "1")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_saves_and_ends(tmp_path, monkeypatch, number):
    run = trainer(tmp_path)
    forward_backward = run._forward_backward

    def interrupted(batch):
        if run.step == 1:
            os.kill(os.getpid(), number)
        return forward_backward(batch)

    monkeypatch.setattr(run, "_forward_backward", interrupted)
    handler = signal.getsignal(number)
    assert run.run() == number
    assert signal.getsignal(number) is handler
    path, state, problems = newest_state(tmp_path)
    assert (path.name, state.step, problems) == ("step_0000002.pdstate", 2, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_printed_log_saves_and_ends(tmp_path):
    run = trainer(tmp_path)
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        redirect_stdout(OutputStream(io.TextIOWrapper(full, write_through=True), "standard output")),
        pytest.raises(OutputError, match="standard output: cannot be written"),
    ):
        run.run()
    assert newest_state(tmp_path)[1].step == 1


def test_a_loss_that_is_not_finite_names_the_pictures_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    run = trainer(tmp_path, "train_cfg.save_every=2")
    prepare = run._prepare_batch

    def broken(job):
        batch = prepare(job)
        if job[1] == [4, 5]:
            batch.images[0, 0, 0, 0] = math.nan
        return batch

    monkeypatch.setattr(run, "_prepare_batch", broken)
    with pytest.raises(InputError, match=r"of step 3 is not finite.*\.jpg, .*\.jpg") as error:
        run.run()
    assert "\n" not in str(error.value)
    state = newest_state(tmp_path)[1]
    assert state.step == 2
    assert all(np.isfinite(array).all() for array in state.weights.values())


def test_a_picture_that_cannot_be_read_ends_the_run_with_its_name(tmp_path):
    """One that was damaged after all of them had been looked at."""
    folder = tmp_path / "data"
    shutil.copytree(trainings.data_set(), folder)
    config = trainings.config(*trainings.overrides(folder=folder))
    run = build_trainer(config, read_data_sets(config), world=SINGLE_PROCESS, folder=tmp_path / "run")
    for picture in (folder / "images").iterdir():
        picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(InputError, match=r"images/00000\d\.jpg"):
        run.run()


def test_the_newest_whole_state_is_resumed_and_old_ones_go(tmp_path):
    trainer(tmp_path, "train_cfg.save_every=1", "train_cfg.keep=2").run(last_step=4)
    names = sorted(path.name for path in tmp_path.glob("step_*"))
    assert names == [f"step_000000{step}.{kind}" for step in (3, 4) for kind in ("pdparams", "pdstate")]
    newest = tmp_path / "step_0000004.pdstate"
    content = newest.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for damaged in (b"", content[:1], content[:half], content[:-1], flipped):
        newest.write_bytes(damaged)
        path, state, problems = newest_state(tmp_path)
        assert (path.name, state.step) == ("step_0000003.pdstate", 3)
        assert "step_0000004" in problems[0]
        with pytest.raises(InputError, match="step_0000004.*, resume from the state before it .*, or delete it$"):
            load_state(newest)
    resumed = trainer(tmp_path)
    message = resume(resumed, tmp_path, "auto").splitlines()
    assert message[0].startswith(f"{newest}: its content does not match its checksum") and resumed.step == 3
    (tmp_path / "step_0000003.pdstate").write_bytes(b"")
    with pytest.raises(InputError, match=r"is complete \(.*0004.pdstate: .* checksum\); delete them, or give another"):
        newest_state(tmp_path)


def test_a_state_of_another_run_is_refused(tmp_path):
    trainer(tmp_path).run(last_step=1)
    for overrides, says in (
        (("train_cfg.batch_size=4",), r"pictures in a step \(.*batch_size.*\) was 2 in the saved run and is 4 now"),
        (("train_cfg.seed=5",), "train_cfg.seed was 0 in the saved run and is 5 now"),
        (("train_cfg.ema_decay=0",), "moving average"),
        (("train_cfg.optimizer=adam",), "train_cfg.optimizer was adamw in the saved run and is adam now"),
        (("head.channels=32",), "head.channels|other shape"),
    ):
        with pytest.raises(InputError, match=says):
            resume(trainer(None, *overrides), tmp_path, "auto")


def test_an_older_state_is_resumed_in_another_folder(tmp_path):
    trainer(tmp_path, "train_cfg.save_every=1").run(last_step=3)
    older = tmp_path / "step_0000002.pdparams"
    with pytest.raises(InputError, match="another --output to branch off"):
        resume(trainer(tmp_path), tmp_path, str(older))
    branch = trainer(tmp_path / "branch")
    assert "after step 2" in resume(branch, tmp_path / "branch", str(older))
    assert branch.step == 2


@pytest.mark.parametrize("changed", [None, "step", "weights"])
def test_processes_start_from_the_same_weights(monkeypatch, changed):
    first, second = trainer(None), trainer(None)
    starts = []
    monkeypatch.setattr(World, "gather", lambda self, start: starts.append(start) or list(starts))
    check_same_start(first)
    if changed == "step":
        second.step = 3
    elif changed == "weights":
        second.network.head.cate_pred.bias.set_value(second.network.head.cate_pred.bias + 1)
    if changed is None:
        check_same_start(second)
    else:
        with pytest.raises(InputError, match="on all machines"):
            check_same_start(second)


def test_a_branch_has_a_best_of_its_own(tmp_path):
    for folder, ap, last_step in ((tmp_path, 0.5, 4), (tmp_path / "branch", 0.4, 8)):
        run = trainer(folder, "train_cfg.eval_every=1")
        run.evaluate = lambda network, ap=ap: MaskAP(ap, ap)
        if run.folder != tmp_path:
            resume(run, run.folder, str(tmp_path / "step_0000004.pdstate"))
        run.run(last_step=last_step)
    assert load_checkpoint(tmp_path / "branch" / BEST_CHECKPOINT).source["step"] == "8"


def test_what_a_killed_run_was_writing_goes(tmp_path):
    for name in (".123-0123abcd.pdstate", ".123-0123abcd.pdparams", ".mine-1.pdparams", "mine.pdparams"):
        (tmp_path / name).touch()
    trainer(tmp_path).run(last_step=1)
    left = {path.name for path in tmp_path.iterdir()}
    assert {".mine-1.pdparams", "mine.pdparams"} <= left
    assert not {name for name in left if name.startswith(".123")}


def test_a_signal_before_an_evaluation_is_not_kept_waiting(tmp_path, monkeypatch):
    run = trainer(tmp_path, "train_cfg.eval_every=1")
    save = run.save
    monkeypatch.setattr(run, "save", lambda: (save(), os.kill(os.getpid(), signal.SIGTERM)))
    run.evaluate = lambda network: pytest.fail("the signal came before")
    assert run.run() == signal.SIGTERM
    assert newest_state(tmp_path)[1].evaluation_due


def test_a_signal_behind_the_sum_waits_for_the_next_step(monkeypatch):
    """Or this process would end a step before the others."""
    run = trainer(None)

    def total(self, values):
        run._received_signal = signal.SIGTERM if run.step == 1 else run._received_signal
        return list(values)

    monkeypatch.setattr(World, "sum", total)
    monkeypatch.setattr(run, "_stop_signal", lambda: run._agreed_signal)
    assert run.run() == signal.SIGTERM
    assert run.step == 3


def test_a_run_is_not_overwritten(tmp_path):
    with reserve_folder(tmp_path, resumes=False):
        trainer(tmp_path).run(last_step=1)
    with reserve_folder(tmp_path, resumes=True):
        pass
    with pytest.raises(InputError, match="--resume auto"), reserve_folder(tmp_path, resumes=False):
        pytest.fail("the folder has a run")
    for path in tmp_path.glob("step_*"):
        path.unlink()
    (tmp_path / BEST_CHECKPOINT).write_bytes(b"kept of a run whose states are gone")
    for resumes in (False, True):
        with pytest.raises(InputError, match="another --output"), reserve_folder(tmp_path, resumes=resumes):
            pytest.fail("the best checkpoint would be overwritten")


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.jsonl", "plain text log"),
        ("log.jsonl", '{"mode": "train", "epoch": 1, "loss": 0.5}\n'),
        ("log.jsonl", '{"step": 5, "train/loss": 0.1}\n'),
        ("log.jsonl", '{"step": null, "loss": 1}\n'),
        ("log.jsonl", "1\n"),
        ("log.jsonl", "\udcff\n"),
        ("curves.png", "mine"),
        ("predictions.png", "mine"),
    ],
)
def test_files_of_other_programs_are_not_overwritten(tmp_path, name, content, resumes):
    (tmp_path / name).write_bytes(os.fsencode(content))
    with pytest.raises(InputError, match="another --output") as caught, reserve_folder(tmp_path, resumes=resumes):
        trainer(tmp_path).run(last_step=1)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == os.fsencode(content)


@pytest.mark.parametrize("start", ["", '{"step": 1', '{"st', '{"step": 1, "loss": 2.0, "lr": 0.1}\n{"step": 2, "los'])
def test_a_log_that_a_crash_has_cut_off_is_continued(tmp_path, start):
    (tmp_path / "log.jsonl").write_text(start)
    with reserve_folder(tmp_path, resumes=False):
        trainer(tmp_path).run(last_step=1)


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(InputError), reserve_folder(tmp_path / "new" / "run", resumes=False):
        raise InputError("no data")
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """`nohup` starts a program that outlives its terminal."""
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run = trainer(tmp_path)
        run.evaluate = None
        threading.Timer(0.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        assert run.run(last_step=3) == 0 and run.step == 3
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_finetuning_takes_what_fits(tmp_path):
    first = trainer(tmp_path)
    first.run(last_step=1)
    checkpoint = tmp_path / "step_0000001.pdparams"
    other = trainer(None, "head.channels=32")
    before = other.network.head.cate_convs[0].conv.weight.numpy()
    said = start_from(other, str(checkpoint))
    assert "head.cate_convs.0.conv.weight: (16, 16, 3, 3) in the file, (32, 16, 3, 3) here" in said
    assert "backbone" not in said.replace(str(checkpoint), "")
    np.testing.assert_array_equal(other.network.head.cate_convs[0].conv.weight.numpy(), before)
    expected = load_checkpoint(checkpoint).weights["backbone.stages.0.0.conv1.conv.weight"]
    np.testing.assert_array_equal(other.network.backbone.stages[0][0].conv1.conv.weight.numpy(), expected)
    with pytest.raises(InputError, match="cannot be read"):
        start_from(other, str(tmp_path / "nothing.pdparams"))


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Where norms do not look at the batch."""
    fixed = ("backbone.norm=frozen", "train_cfg.epochs=1", "train_cfg.optimizer=momentum")
    large, small = trainer(None, *fixed, "train_cfg.batch_size=4"), trainer(None, *fixed, "train_cfg.accumulate=2")
    for run in (large, small):
        run.run(last_step=1)
    # The mean of two batches' losses is that of both together only where their counts are equal, hence the tolerance.
    for name, value in large.network.state_dict().items():
        assert paddle.allclose(value, small.network.state_dict()[name], atol=2e-3), name
