"""`train.py` as a user runs it: complete, resumed, interrupted, killed, and with mistakes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train as training
from config.base import PROJECT
from tests.support import trainings
from tests.support.programs import (
    Finished,
    children_of,
    has_ended,
    override_options,
    python_command,
    run_main,
    run_python,
)
from tools.common.checkpoint import load_checkpoint, save_checkpoint
from tools.train.log import read_log
from tools.train.state import load_state, newest_state

TRAIN = PROJECT / "train.py"


def train(*arguments: str) -> Finished:
    return run_python(TRAIN, *arguments)


def start_training(*arguments: str) -> subprocess.Popen:
    """Start train.py in a process of its own and do not wait for it."""
    return subprocess.Popen(python_command(TRAIN, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def in_run(folder: Path, *more: str) -> list[str]:
    return [*trainings.options(*more), "--device=cpu", "--output", str(folder)]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if "loss" in line]


def wait_for_first_step(process: subprocess.Popen) -> None:
    for line in iter(process.stdout.readline, b""):  # ends with the process, so that a test never hangs
        if line.startswith(b"step "):
            return


def test_training_from_random_weights_to_a_checkpoint_for_eval(tmp_path):
    done = train(*in_run(tmp_path / "run", "train_cfg.eval_every=2"), "--seed=3")
    assert done.returncode == 0, done.stderr
    assert "8 of 8 steps" in done.stdout
    assert "starting from random weights" in done.stdout
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "log.jsonl",
        "curves.png",
        "predictions.png",
        "best.pdparams",
    }
    checkpoint = load_checkpoint(tmp_path / "run" / "best.pdparams")
    assert (checkpoint.config_name, len(checkpoint.classes)) == ("solov2_tiny_shapes", 8)
    line = read_log(tmp_path / "run")[0]
    assert line.keys() == {
        "step",
        "mask",
        "category",
        "loss",
        "lr",
        "pictures_per_second",
        "data_wait",
        "learning",
        "memory_mib",
    }
    evaluated = run_python(
        "eval.py", *in_run(tmp_path / "eval", "eval_cfg.batch_size=3"),
        "--weights", tmp_path / "run" / "best.pdparams", "--classwise", "--engine=dynamic",
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"{trainings.PICTURES} pictures" in evaluated.stdout
    assert "crescent" in evaluated.stdout
    assert (tmp_path / "eval" / "index.html").exists()


def test_resuming_and_other_starts(tmp_path):
    first, whole = tmp_path / "first", tmp_path / "whole"
    assert train(*in_run(whole)).returncode == 0
    assert train(*in_run(first), "--max-iters=3").returncode == 0
    refused = train(*in_run(first))
    assert refused.returncode == 2
    assert "--resume auto" in refused.stderr
    resumed = train(*in_run(first), "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "after step 3" in resumed.stdout
    assert losses(first) == losses(whole)
    finished = train(*in_run(first, "train_cfg.epochs=1"), "--resume", "auto")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1].startswith(
        "training is already finished: 8 steps are done and it ends after 4"
    )
    assert "step" not in finished.stderr
    tuned = train(*in_run(tmp_path / "tuned"), "--max-iters=1", "--finetune", str(whole / "step_0000008.pdparams"))
    assert tuned.returncode == 0, tuned.stderr
    assert losses(tmp_path / "tuned")[0] < losses(whole)[0]


def test_performance_leaves_no_files(tmp_path):
    done = train(*in_run(tmp_path / "run"), "--performance=3", "--max-iters=1")
    assert done.returncode == 2 and "leave one of them out" in done.stderr
    done = train(*in_run(tmp_path / "run"), "--performance=3")
    assert done.returncode == 0, done.stderr
    assert "pictures/s" in done.stdout and "MiB" in done.stdout
    assert not (tmp_path / "run").exists()
    trained = in_run(tmp_path / "run")
    assert train(*trained, "--max-iters=1").returncode == 0
    for more in ((), ("--resume=auto",)):
        done = train(*trained, "--performance=2", *more)
        assert done.returncode == 0, done.stderr
        assert f"{3 if more else 2} of 8 steps" in done.stdout


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint(tmp_path, processes, number, status):
    options = in_run(tmp_path, "train_cfg.epochs=1000", f"train_cfg.processes={processes}", "train_cfg.batch_size=1")
    with start_training(*options) as process:
        wait_for_first_step(process)
        process.send_signal(number)
        output, errors = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == status, errors
    assert "Traceback" not in errors and "--resume auto" in output
    state = newest_state(tmp_path)[1]
    assert state.step == len(losses(tmp_path)) > 0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_closed_output_saves_a_checkpoint(tmp_path, processes):
    """The output is closed as by `train.py | head -1`."""
    options = in_run(tmp_path, "train_cfg.epochs=1000", f"train_cfg.processes={processes}", "train_cfg.batch_size=1")
    with start_training(*options) as process:
        wait_for_first_step(process)
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")
    state = newest_state(tmp_path)[1]
    assert state.step == len(losses(tmp_path)) > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-o", "train_path=nowhere.json"), "nowhere.json"),
        (("-o", "train_pre_path=nowhere"), "nowhere"),
        (("-o", "train_cfg.batch_size=100"), "train_cfg.batch_size"),
        (("-o", "train_cfg.accumulate=100"), "train_cfg.accumulate"),
        (("-o", "train_cfg.precision=O1"), "does nothing on a CPU"),
        (("-o", "train_cfg.model_path=weights/none.pdparams"), "--finetune"),
        (("-o", "train_cfg.model_path={foo}"), "{foo}: the checkpoint to start from does not exist"),
        (("--finetune", "weights/none.pdparams"), "weights/none.pdparams"),
        (("--resume", "weights/none.pdstate"), "weights/none.pdstate"),
        (("--resume", "x.pdstate", "--finetune", "x"), "--finetune: a saved state has its own weights; leave it out"),
        (("--resume", ""), "--resume: an empty name"),
        (("--resume", "weights"), "weights: is a folder; give a step_*.pdstate in it, or --resume auto --output"),
        (("--finetune", ""), "--finetune: an empty name"),
        (("--max-iters", "0"), "'0': must be an integer >= 1"),
        (("--performance=2", "--visualdl"), "--visualdl: --performance writes nothing"),
        (("--visualdl",), "--visualdl: the package visualdl is not installed"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, says):
    done = run_main(training.main, *in_run(tmp_path / "run"), *arguments)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], lines


@pytest.fixture(scope="module")
def one_step(tmp_path_factory) -> Path:
    """Return the folder of a training that was stopped after a step, with other files beside its state."""
    folder = tmp_path_factory.mktemp("one_step")
    done = train(*in_run(folder), "--max-iters=1")
    assert done.returncode == 0, done.stderr
    (folder / "best.pdparams").write_bytes((folder / "step_0000001.pdparams").read_bytes())
    (folder / "notes.txt").write_text("no checkpoint")
    checkpoint = load_checkpoint(folder / "best.pdparams")
    name, array = next(iter(checkpoint.weights.items()))
    save_checkpoint(folder / "nan.pdparams", replace(checkpoint, weights={name: np.full_like(array, np.nan)}))
    return folder


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            ("--resume", "Auto"),
            "Auto: there is no training state Auto.pdstate in this folder; --resume takes auto or a",
        ),
        (("--resume", "best.pdparams"), "best.pdparams: there is no training state best.pdstate in this folder"),
        (("--resume", "step_0000001.pdstate"), "the config was solov2_tiny_shapes in the saved run and is solov2_"),
        (("--finetune", "notes.txt"), "notes.txt: not a checkpoint"),
        (("--finetune", "nan.pdparams"), "nan.pdparams: has values that are not finite numbers in backbone."),
    ],
)
def test_a_wrong_start_is_refused_before_the_data_is_read(tmp_path, one_step, option, says):
    name, file = option
    options = "--output", str(tmp_path / "run"), *override_options("train_path=nowhere.json", "train_cfg.processes=1")
    done = run_main(training.main, "--config=21", *options, name, str(one_step / file))
    assert done.returncode == 2 and says in done.stderr, done.stderr


def test_resume_auto_without_a_state_starts_as_without_it(tmp_path, one_step):
    """From the config's checkpoint, not from random weights."""
    checkpoint = one_step / "step_0000001.pdparams"
    options = in_run(tmp_path / "run", f"train_cfg.model_path={checkpoint}")
    done = run_main(training.main, *options, "--resume=auto", "--max-iters=1")
    assert done.returncode == 0, done.stderr
    assert f"run: has no saved state to resume\nstarting from {checkpoint}\n" in done.stdout


def test_the_command_of_a_stopped_finetuning_continues_it_with_resume_auto(tmp_path, one_step):
    """Its first run finds no state, and starts from the checkpoint; a later one leaves the checkpoint unread."""
    checkpoint = shutil.copyfile(one_step / "step_0000001.pdparams", tmp_path / "start.pdparams")
    options = *in_run(tmp_path / "run"), "--resume=auto", f"--finetune={checkpoint}"
    done = run_main(training.main, *options, "--max-iters=1")
    assert done.returncode == 0, done.stderr
    assert f"starting from {checkpoint}\n" in done.stdout
    checkpoint.unlink()
    done = run_main(training.main, *options, "--max-iters=2")
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout and "after step 1\n" in done.stdout


def test_two_processes_learn_the_same_as_one(tmp_path):
    """Compare 2 x 2 pictures with 1 x 4, shared by default and by Paddle's launcher, with frozen norms."""
    # With Momentum the first step is the gradient times the learning rate.
    fixed = ("backbone.norm=frozen", "train_cfg.optimizer=momentum", "train_cfg.epochs=5", "train_cfg.warmup_iters=0")

    def ten_steps(name: str, *overrides: str, launcher: tuple[str, ...] = (), cores: int = 1) -> tuple:
        """Return the weights after the first step, and all losses."""
        folder = tmp_path / name
        keeping = "train_cfg.save_every=1", "train_cfg.keep=10"
        options = in_run(folder, *fixed, *keeping, *overrides)
        done = run_python(*launcher, TRAIN, *options, environment={**os.environ, "OMP_NUM_THREADS": str(cores)})
        assert done.returncode == 0, done.stderr
        assert "FLAGS" not in done.stderr
        return load_state(folder / "step_0000001.pdstate").weights, losses(folder)

    launcher = ("-m", "paddle.distributed.launch", "--nproc_per_node=2", f"--log_dir={tmp_path / 'log'}")
    weights, expected = ten_steps("one", "train_cfg.batch_size=4")
    assert len(expected) == 10
    ours = ten_steps("ours", "train_cfg.batch_size=4", "train_cfg.processes=0", cores=2)
    for found, values in (ours, ten_steps("launched", launcher=launcher)):
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        for name, value in weights.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_processes_that_resume_compute_what_they_would_have_computed(tmp_path):
    """The statistics of batch norms are those of all processes after every step, whenever the run was saved."""
    options = "train_cfg.processes=2", "train_cfg.batch_size=1"
    assert train(*in_run(tmp_path / "whole", *options), "--max-iters=6").returncode == 0
    parts = in_run(tmp_path / "parts", *options, "train_cfg.save_every=2")
    assert train(*parts, "--max-iters=3").returncode == 0
    assert train(*parts, "--resume=auto", "--max-iters=6").returncode == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    expected, found = (load_state(tmp_path / name / "step_0000006.pdstate") for name in ("whole", "parts"))
    for part in ("weights", "average", "optimizer"):
        for name, value in getattr(expected, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], value, err_msg=f"{part} {name}")


def test_a_process_that_fails_ends_the_others(tmp_path):
    options = in_run(tmp_path, "train_cfg.processes=2", "train_cfg.epochs=1000", "train_cfg.batch_size=1")
    with start_training(*options) as process:
        wait_for_first_step(process)
        members = children_of(process.pid)
        assert len(members) == 2
        signal.pidfd_send_signal(members[1], signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert all(has_ended(member) for member in members)


def test_a_killed_run_leaves_no_process_behind_and_resumes(tmp_path):
    options = in_run(
        tmp_path, "train_cfg.processes=2", "train_cfg.epochs=1000", "train_cfg.batch_size=1", "train_cfg.save_every=1"
    )
    with start_training(*options) as process:
        for _ in range(3):
            wait_for_first_step(process)
        members = children_of(process.pid)
        process.kill()
        process.communicate(timeout=60)
    assert all(has_ended(member) for member in members)
    saved = newest_state(tmp_path)[1].step
    assert saved >= len(losses(tmp_path)) - 1
    resumed = train(*options, "--resume=auto", f"--max-iters={saved + 1}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"after step {saved}" in resumed.stdout


def test_a_mistake_is_printed_by_one_process_only(tmp_path):
    done = train(*in_run(tmp_path / "run", "train_cfg.processes=2", "train_path=nowhere.json"))
    assert done.returncode == 2
    assert done.stderr.count("nowhere.json: cannot be read") == 1, done.stderr


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    options = in_run(tmp_path, "train_cfg.epochs=1000")
    with start_training(*options) as process:
        wait_for_first_step(process)
        temporary = tmp_path / ".1-0123abcd.pdstate"
        temporary.touch()
        for more in ((), ("--resume=auto",)):
            done = train(*options, *more)
            assert done.returncode == 2
            assert done.stderr.count("another training is running in it; ") == 1 == done.stderr.count("\n"), done.stderr
        assert process.poll() is None and temporary.exists()
        process.kill()
        process.communicate(timeout=60)
    resumed = train(*in_run(tmp_path, "train_cfg.epochs=1000"), "--resume=auto", "--max-iters=1")
    assert resumed.returncode == 0, resumed.stderr
