"""Data sets of generated pictures are drawn when a config uses its own default paths, and only then."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from config.errors import InputError
from config.overrides import override
from config.solov2_tiny_shapes import SOLOv2TinyShapes
from tests.support.programs import override_options, run_main, run_python
from tools import draw_shapes
from tools.dataset.splits import read_splits


@pytest.fixture
def few(tmp_path):
    """Return config 20 with few pictures, in a folder of the test."""

    class Few(SOLOv2TinyShapes):
        shapes = replace(SOLOv2TinyShapes.shapes, train_pictures=3, val_pictures=2, height=64, width=64)
        train_path, train_pre_path = f"{tmp_path}/train/annotations.json", f"{tmp_path}/train/images"
        val_path, val_pre_path = f"{tmp_path}/val/annotations.json", f"{tmp_path}/val/images"

    return Few


def test_a_missing_data_set_is_drawn_once(few, tmp_path, capsys):
    data = read_splits(few(), ("train", "val"))
    assert [len(found.records) for found in data.values()] == [3, 2]
    assert capsys.readouterr().out.count("drew") == 2
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    read_splits(few(), ("train", "val"))
    assert "drew" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_data_set_without_its_pictures_is_drawn_again(few, tmp_path):
    read_splits(few(), ("val",))
    shutil.rmtree(tmp_path / "val" / "images")
    assert len(read_splits(few(), ("val",))["val"].records) == 2


def test_a_users_path_is_never_drawn_to(few, tmp_path):
    class Mine(few):
        train_path = f"{tmp_path}/mine.json"

    for config in (Mine(), few().replace(train_path=f"{tmp_path}/mine.json")):
        with pytest.raises(InputError, match="mine.json"):
            read_splits(config, ("train",))
    assert not list(tmp_path.iterdir())


def test_the_data_set_of_a_derived_config_is_not_replaced(few, tmp_path, monkeypatch):
    class Mine(few):
        train_path, train_pre_path = f"{tmp_path}/mine.json", f"{tmp_path}/photos"

    monkeypatch.setattr(draw_shapes, "load_config", lambda number, overrides: override(Mine(), overrides))
    done = run_main(draw_shapes.main)
    assert done.returncode == 2 and f"{tmp_path}/mine.json is a data set of its own" in done.stderr
    assert not list(tmp_path.iterdir())
    others = [f"train_path={tmp_path}/drawn.json", f"train_pre_path={tmp_path}/drawn"]
    assert run_main(draw_shapes.main, *override_options(*others)).returncode == 0
    same = [f"{split}_path={tmp_path}/{split}.json" for split in ("train", "val")]
    same += [f"{split}_pre_path={tmp_path}/one" for split in ("train", "val")]
    done = run_main(draw_shapes.main, *override_options(*same))
    assert done.returncode == 2 and "train_pre_path and val_pre_path: are one folder" in done.stderr


def test_options_of_pictures_need_a_place_for_them(few, tmp_path):
    changed = override(few(), ["shapes.height=96"])
    with pytest.raises(InputError, match=r"-o shapes\.height: .*train/annotations\.json; draw others with tools/draw"):
        read_splits(changed, ("train",))
    with pytest.raises(InputError, match=r"-o shapes\.height: has no effect on mine\.json; leave it out, and give"):
        read_splits(changed.replace(train_path="mine.json"), ("train",))
    assert not list(tmp_path.iterdir())


def test_the_command_line(tmp_path):
    done = run_python("tools/draw_shapes.py", "--config=0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    small = ["shapes.train_pictures=2", "shapes.val_pictures=1", "shapes.height=64", "shapes.width=96"]
    paths = [f"{split}_path={tmp_path}/{split}/mine.json" for split in ("train", "val")]
    paths += [f"{split}_pre_path={tmp_path}/{split}/pictures" for split in ("train", "val")]
    for _ in range(2):  # what the program has drawn itself it draws again
        done = run_main(draw_shapes.main, *override_options(*small, *paths))
        assert (done.returncode, done.stdout.count("drew")) == (0, 2), done.stderr
        assert len(list((tmp_path / "train" / "pictures").glob("*.jpg"))) == 2
        assert (tmp_path / "train" / "mine.json").is_file()
    for foreign in (tmp_path / "train" / "mine.json", tmp_path / "train" / "pictures" / "000001.jpg"):
        content = foreign.read_bytes()
        foreign.write_text("a user's own file")
        done = run_main(draw_shapes.main, *override_options(*small, *paths))
        assert (done.returncode, foreign.read_text()) == (2, "a user's own file")
        assert f"{foreign}: not written by this project" in done.stderr
        foreign.write_bytes(content)
    done = run_main(draw_shapes.main, *override_options(*small, paths[0]))
    assert done.returncode == 2 and "train_path and train_pre_path: set both" in done.stderr
