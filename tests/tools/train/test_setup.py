"""Messages before a training starts: about its data, and about the weights and the state it continues from."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from config.errors import InputError
from tests.support import trainings
from tests.support.trainings import resume, start_from, trainer
from tools.train.setup import describe_finished, read_data_sets, reserve_folder
from tools.train.state import newest_state, save_state


def test_validation_pictures_that_are_trained_on_are_named_once(capsys):
    read_data_sets(trainings.config("train_cfg.eval_every=1"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "are also in" in line]
    assert len(lines) == 1 and lines[0].startswith("  8 of 8 pictures of ")
    read_data_sets(trainings.config())
    assert "are also in" not in capsys.readouterr().out


@pytest.fixture
def data(tmp_path) -> Path:
    """Return a folder with a copy of the data set."""
    return Path(shutil.copytree(trainings.data_set(), tmp_path / "data"))


def change_annotations(folder: Path, key: str, value: object) -> None:
    path = folder / "annotations.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_resuming_on_the_same_data_in_another_folder_is_silent(tmp_path, data):
    trainer(tmp_path / "run").run(last_step=1)
    change_annotations(data, "info", {"description": "written again"})
    message = resume(trainer(tmp_path / "run", *trainings.data_paths(data)), tmp_path / "run", "auto")
    assert message == f"resuming {tmp_path / 'run' / 'step_0000001.pdstate'} after step 1"


@pytest.mark.parametrize(("removed", "pictures"), [(0, 8), (1, 7)], ids=["other instances", "fewer pictures"])
def test_resuming_on_other_data_is_one_line(tmp_path, data, removed, pictures):
    run = tmp_path / "run"
    trainer(run).run(last_step=1)
    content = json.loads((data / "annotations.json").read_text())
    change_annotations(data, "annotations", content["annotations"][1:])
    change_annotations(data, "images", content["images"][: len(content["images"]) - removed])
    resumed = trainer(run, *trainings.data_paths(data))
    line, last = resume(resumed, run, "auto").splitlines()
    file = run / "step_0000001.pdstate"
    assert line.startswith(
        f"{file}: was trained on other data, 8 pictures of {trainings.data_set()}/annotations.json; "
    )
    assert f"on {pictures} pictures of {data}/annotations.json" in line and "--finetune" in line
    assert ", which has changed" not in line
    assert last.endswith("after step 1") and resumed.run() == 0


def test_resuming_on_an_annotation_file_that_has_changed_is_one_line(tmp_path, data):
    run, paths = tmp_path / "run", trainings.data_paths(data)
    trainer(run, *paths).run(last_step=1)
    content = json.loads((data / "annotations.json").read_text())
    change_annotations(data, "annotations", content["annotations"][1:])
    line, _ = resume(trainer(run, *paths), run, "auto").splitlines()
    assert f"8 pictures of {data}/annotations.json, which has changed. If" in line


def test_resuming_with_other_validation_pictures_chooses_a_new_best(tmp_path, data):
    run, evaluates = tmp_path / "run", "train_cfg.eval_every=1"
    trainer(run, evaluates).run(last_step=4)
    best = newest_state(run)[1].best_ap
    resumed = trainer(run, evaluates)
    assert "evaluated on other" not in resume(resumed, run, "auto") and resumed.best_ap == best >= 0
    content = json.loads((data / "annotations.json").read_text())
    change_annotations(data, "annotations", content["annotations"][1:])
    others = f"val_path={data / 'annotations.json'}", f"val_pre_path={data / 'images'}"
    resumed = trainer(run, evaluates, *others)
    line, _ = resume(resumed, run, "auto").splitlines()
    assert f"was evaluated on other pictures than those of {data / 'annotations.json'}, or they have changed" in line
    assert "the next evaluation chooses a new best.pdparams" in line and resumed.best_ap == -1
    resumed = trainer(run, *others)  # which does not evaluate
    assert "evaluated on other" not in resume(resumed, run, "auto") and resumed.best_ap == best


def test_resuming_with_other_settings_is_one_line(tmp_path):
    run = tmp_path / "run"
    trainer(run, "train_cfg.lr=0.5", "augment.flip=0.25").run(last_step=1)
    file = run / "step_0000001.pdstate"
    line, last = resume(trainer(run, "train_cfg.workers=1"), run, "auto").splitlines()
    assert line == (
        f"{file}: was trained with augment.flip=0.25, train_cfg.lr=0.5; the next steps are trained with "
        "augment.flip=0.5, train_cfg.lr=0.002. If that is not intended, give the former values with -o"
    )
    assert last == f"resuming {file} after step 1"


def test_a_state_without_settings_is_resumed_without_a_line(tmp_path):
    """Earlier versions wrote none."""
    saved = trainer(tmp_path / "run", "train_cfg.lr=0.5")
    saved.run(last_step=1)
    save_state(tmp_path / "run", replace(newest_state(tmp_path / "run")[1], settings={}), saved._checkpoint(), keep=1)
    assert len(resume(trainer(tmp_path / "run"), tmp_path / "run", "auto").splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "change", "says"),
    [
        ("settings", lambda value: {"train_cfg.lr": 0.5}, "has invalid settings"),
        ("step", lambda value: -value, "has invalid step"),
        ("step", float, "has invalid step"),
        ("class_names", lambda value: None, "has invalid class_names"),
        ("weights", list, "has invalid weights"),
        ("optimizer", lambda value: {name: array * np.nan for name, array in value.items()}, "has invalid optimizer"),
        ("optimizer", lambda value: {name: np.ones(3) for name in value}, "has moment1_0 of another shape for"),
        ("average", lambda value: {name: array * np.nan for name, array in value.items()}, "has invalid average"),
        ("average", lambda value: dict(list(value.items())[:1]), "average is of another network: missing: "),
    ],
)
def test_a_state_with_other_content_is_one_line(tmp_path, field, change, says):
    averaged = "train_cfg.ema_decay=0.9"
    trainer(tmp_path, averaged).run(last_step=1)
    path = newest_state(tmp_path)[0]
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**content, field: change(content[field])}, protocol=4))
    with pytest.raises(InputError, match=says):
        resume(trainer(tmp_path, averaged), tmp_path, str(path))


def test_weights_of_a_run_without_its_states_are_not_overwritten(tmp_path):
    (tmp_path / "step_0000001.pdparams").write_text("kept")
    for resumes in (False, True):
        refused = pytest.raises(InputError, match="contains weights of a run without its states")
        with refused, reserve_folder(tmp_path, resumes=resumes):
            pass


@pytest.mark.parametrize("written", [0, 1])
def test_a_disk_that_is_full_at_the_first_save_leaves_a_folder_that_can_be_used(tmp_path, monkeypatch, written):
    whole, files = pickle.dump, []

    def dump(content: object, stream: BinaryIO, protocol: int) -> None:
        files.append(stream)
        if len(files) > written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(content, stream, protocol)

    with monkeypatch.context() as patch:
        patch.setattr(pickle, "dump", dump)
        with pytest.raises(InputError, match="No space left on device"):
            trainer(tmp_path).run(last_step=1)
    assert not list(tmp_path.glob("*step_*"))
    for resumes in (False, True):
        with reserve_folder(tmp_path, resumes=resumes):
            assert "starting from" in resume(trainer(tmp_path), tmp_path, "auto")


def test_a_state_of_another_folder_is_not_resumed_into_the_folder_of_a_run(tmp_path):
    for name in ("a", "b"):
        trainer(tmp_path / name).run(last_step=1)
    state = tmp_path / "b" / "step_0000001.pdstate"
    with pytest.raises(InputError, match=r"a: contains another run than that of .*step_0000001\.pdstate; give another"):
        resume(trainer(None), tmp_path / "a", str(state))
    assert resume(trainer(None), tmp_path / "c", str(state)).startswith("resuming")


def test_validation_pictures_without_an_instance_are_refused(data):
    change_annotations(data, "annotations", [])
    paths = f"val_path={data / 'annotations.json'}", f"val_pre_path={data / 'images'}"
    with pytest.raises(InputError, match=r"annotations\.json: has no usable instance to evaluate on.*eval_every=0"):
        read_data_sets(trainings.config("train_cfg.eval_every=1", *paths))


def test_another_way_to_select_the_best_checkpoint_is_one_line(tmp_path):
    trainer(tmp_path).run(last_step=1)
    line, _ = resume(trainer(tmp_path, "eval_cfg.select_by=match"), tmp_path, "auto").splitlines()
    assert "its best.pdparams was selected by ap (eval_cfg.select_by); the next evaluation chooses a new one" in line


def test_states_of_earlier_versions_are_resumed(tmp_path):
    trainer(tmp_path).run(last_step=1)
    path = newest_state(tmp_path)[0]
    content = pickle.loads(path.read_bytes())
    del content["train_path"], content["fingerprint"], content["validation"]
    path.write_bytes(pickle.dumps(content, protocol=4))
    assert resume(trainer(tmp_path), tmp_path, "auto") == f"resuming {path} after step 1"


def rename_classes(folder: Path, order: slice) -> list[str]:
    """Give the category ids other names, in this order; return the former names."""
    rows = sorted(json.loads((folder / "annotations.json").read_text())["categories"], key=lambda row: row["id"])
    names = [row["name"] for row in rows]
    renamed = [{"id": row["id"], "name": name} for row, name in zip(rows, names[order])]
    change_annotations(folder, "categories", renamed)
    return names


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(7)], ids=["another order", "fewer"])
def test_resuming_with_other_classes_is_refused(tmp_path, data, order):
    run = tmp_path / "run"
    trainer(run).run(last_step=1)
    names = rename_classes(data, order)
    says = "there were 8 classes and there are 7" if order.stop else f"class 1 was '{names[0]}' and is '{names[-1]}', "
    with pytest.raises(InputError, match=f": {says}.* the same order; .*--finetune .*0001.pdparams") as error:
        resume(trainer(run, *trainings.data_paths(data)), run, "auto")
    assert "\n" not in str(error.value)


def test_finetuning_with_classes_in_another_order_is_one_line(tmp_path, data):
    trainer(tmp_path).run(last_step=1)
    checkpoint = str(tmp_path / "step_0000001.pdparams")
    assert start_from(trainer(None), checkpoint) == f"starting from {checkpoint}"
    names = rename_classes(data, slice(None, None, -1))
    _, line = start_from(trainer(None, *trainings.data_paths(data)), checkpoint).splitlines()
    assert line.startswith(f"{checkpoint}: each class starts with the weights of the checkpoint's class in its place: ")
    assert f"class 8 was '{names[7]}' and is '{names[0]}'" in line


def test_finetuning_on_pictures_that_are_prepared_in_another_way_is_one_line(tmp_path):
    trainer(tmp_path, "data.mean=1,2,3", "data.short_side=96").run(last_step=1)
    checkpoint = str(tmp_path / "step_0000001.pdparams")
    _, line = start_from(trainer(None), checkpoint).splitlines()
    assert line == f"{checkpoint}: its pictures were prepared in another way: data.mean=(1.0, 2.0, 3.0)"


def test_a_finished_training_says_how_to_continue():
    run = trainer(None)  # 2 epochs of 4 steps
    assert describe_finished(run, None) == ""
    run.step = 8
    assert (
        describe_finished(run, None)
        == describe_finished(run, 9)
        == (
            "training is already finished: 8 steps are done and it ends after 8; "
            "give more epochs (-o train_cfg.epochs=N) of 4 steps each"
        )
    )
    assert describe_finished(run, 5).endswith(" it ends after 5; give a larger --max-iters")
    run.evaluation_due = True
    assert describe_finished(run, None) == "" != describe_finished(run, 5)
