"""Drawings of training samples and of the grid cells that learn each instance."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import read_coco
from data.grid_targets import CellBlock
from data.images import find_images, read_image
from data.training_set import TrainingSet, load_sample
from tests.support import trainings
from tests.support.programs import override_options, run_python
from tests.support.samples import SAMPLES, assert_equal
from tests.support.squares import GRIDS, write_squares
from tools.browse_dataset import draw_grid, draw_sample, main
from tools.common.kinds import kind_of
from tools.predict.drawing import PALETTE

NAMES = ("cat", "dog")
PICTURES = ([(1, 1, 20)], [(30, 20, 9), (33, 22, 12)], [(10, 50, 8)], [(40, 8, 16)])
AUGMENT = ("augment.distort=1", "augment.flip=0.5", "augment.turn=0.5", "augment.copy_paste=0.5")


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> list[str]:
    return [*GRIDS, *AUGMENT, *write_squares(tmp_path_factory.mktemp("squares"), "train", PICTURES, NAMES)]


def drawn_samples(overrides: list[str], *arguments: object) -> list:
    """Return the samples that the program draws."""
    blank = np.zeros((8, 8, 3), np.uint8)
    with mock.patch("tools.browse_dataset.draw_sample", return_value=blank) as draw:
        assert main(["--config=20", *override_options(*overrides), *map(str, arguments)]) == 0
    return [call.args[0] for call in draw.call_args_list]


def training_set(overrides: list[str], seed: int) -> TrainingSet:
    config = load_config(20, overrides)
    return TrainingSet(
        read_coco(config.train_path, config.train_pre_path).records,
        config,
        seed=seed,
        make_targets=kind_of(config).targets,
    )


def test_samples_are_those_of_training(squares, tmp_path):
    drawn = drawn_samples(squares, "--epoch=3", "--seed=7", "--count=4", "--output", tmp_path)
    wanted = training_set(squares, seed=7)
    files = [path.stem for path in find_images([tmp_path])]
    for place, sample in enumerate(drawn):
        expected = wanted.sample(3, place, wanted.index(3, place))
        assert_equal(sample, expected)
        assert files[place] == f"epoch3_{place:04d}_{wanted.records[wanted.index(3, place)].path.stem}"
    assert any(" + " in sample.name for sample in drawn), "no picture was mixed with a second one"
    assert wanted.batch(3, [2, 0]).names == (drawn[2].name, drawn[0].name)


def test_each_epoch_has_its_own_order(squares):
    source = training_set(squares, seed=0)
    orders = {tuple(source.index(epoch, place) for place in range(len(PICTURES))) for epoch in range(6)}
    assert len(orders) > 1 and {tuple(sorted(order)) for order in orders} == {tuple(range(len(PICTURES)))}


def test_raw_pictures_are_those_of_the_data_set(squares, tmp_path):
    records = {str(record.path): record for record in training_set(squares, seed=0).records}
    drawn = drawn_samples(squares, "--raw", "--output", tmp_path)
    assert len(drawn) == len(PICTURES)  # fewer than the default of 16
    for sample in drawn:
        assert_equal(sample, load_sample(records[sample.name], load_config(20, squares)))


def test_program_writes_what_draw_sample_draws(squares, tmp_path):
    assert main(["--config=20", *override_options(*squares), "--count=1", "--output", str(tmp_path)]) == 0
    (path,) = find_images([tmp_path])
    config = load_config(20, squares)
    source = training_set(squares, seed=config.train_cfg.seed)
    sample, classes = source.sample(0, 0, source.index(0, 0)), ClassList(NAMES, (1, 2))
    np.testing.assert_array_equal(
        read_image(path), draw_sample(sample, classes, config, title="train, epoch 0, place 0")
    )


def test_a_file_of_the_user_is_not_drawn_over(squares, tmp_path):
    arguments = ["--config=20", *override_options(*squares), "--count=2", "--output", str(tmp_path)]
    assert main(arguments) == main(arguments) == 0
    first, second = find_images([tmp_path])
    first.unlink()
    second.write_text("a file of the user")
    with pytest.raises(InputError, match=f"{second.name}: not written by this project"):
        main(arguments)
    assert not first.exists()


def test_grid_shows_the_cells_of_each_instance():
    """The grids have 2 x 2 and 4 x 4 cells; red has a row of the finer one and shares one of its cells with green."""
    red, green = colors = np.array([(255, 0, 0), (0, 255, 0)], np.uint8)
    blocks = [
        CellBlock(level=0, instance=0, centre=3, cells=np.array([3])),
        CellBlock(level=1, instance=0, centre=4 + 5, cells=np.array([4 + 4, 4 + 5, 4 + 6])),
        CellBlock(level=1, instance=1, centre=4 + 11, cells=np.array([4 + 6, 4 + 11])),
    ]
    outline = [np.array([[[25, 65]], [[30, 65]], [[30, 75]]], np.int32)]
    white = np.full((80, 80, 3), 255, np.uint8)
    panel = draw_grid(white, [outline, outline], colors, (2, 4), 1, blocks)
    for (x, y), color in {
        (10, 30): red,  # cell 1, 0
        (30, 30): red,  # cell 1, 1
        (43, 30): red,  # cell 1, 2: a stripe of each, the later one to the right
        (55, 25): green,
        (70, 50): green,  # cell 2, 3
        (70, 30): (255, 255, 255),  # cell 1, 3 learns nothing
        (27, 65): green,  # the outline, the later one on top
    }.items():
        np.testing.assert_allclose(panel[y, x], color, atol=30, err_msg=f"{x}, {y}")  # smooth edges
    dark = (panel.sum(axis=-1) < 150).nonzero()
    assert (dark[0].min(), dark[0].max(), dark[1].min(), dark[1].max()) == (19, 61, 19, 79)  # frames of both centres
    coarse = draw_grid(white, [outline, outline], colors, (2, 4), 0, blocks)
    assert coarse[60, 60].tolist() == list(red) and not (coarse == green).all(axis=-1).any()
    assert (white == 255).all()


@settings(max_examples=8)
@given(SAMPLES, st.sampled_from(["target.scale_ranges=1,10,8,20,16,30", "target.scale_ranges=90,91,92,93,94,95"]))
def test_every_sample_can_be_drawn(sample, ranges):
    """Samples may have no instances, instances on no level, and any shape."""
    classes = ClassList(tuple(f"class {index}" for index in range(20)), tuple(range(20)))
    config = load_config(20, [*GRIDS, ranges])
    drawn = draw_sample(sample, classes, config, title="train")
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3 and max(drawn.shape) > 900
    right = drawn[:, -drawn.shape[1] // 8 :]  # a part of the panels at the right
    assert "90" not in ranges or not any((right == color).all(axis=-1).any() for color in PALETTE)


def test_command_line(squares, tmp_path):
    overrides = override_options(*squares)
    done = run_python("tools/browse_dataset.py", "--config=20", *overrides, "--count=2", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"2 drawings are in {tmp_path}" in done.stdout and len(find_images([tmp_path])) == 2


def test_missing_pictures_are_a_mistake(squares, tmp_path):
    with pytest.raises(InputError, match="none of its 4 pictures is in .*set train_pre_path"):
        main(
            [
                "--config=20",
                *override_options(*squares, f"train_pre_path={tmp_path}"),
                "--output",
                str(tmp_path / "out"),
            ]
        )


def test_pictures_without_any_instance_are_a_mistake(tmp_path):
    paths = write_squares(tmp_path, "train", [(), ()], NAMES)
    with pytest.raises(InputError, match=r"train\.json: no picture has a usable annotation"):
        main(["--config=20", *override_options(*GRIDS, *paths), "--output", str(tmp_path / "out")])


def test_unknown_split_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--split=test"])
    assert end.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_picture_that_takes_the_place_of_a_damaged_one_is_named(tmp_path, capsys):
    folder = trainings.damaged_data_set(tmp_path / "damaged", "000002.jpg")
    overrides = trainings.overrides(folder=folder)
    assert main(["--config=20", *override_options(*overrides), "--output", str(tmp_path / "drawn")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped ")]
    assert line.startswith(f"skipped {folder / 'images' / '000002.jpg'}: damaged JPEG")
    assert line.endswith("; the next picture takes its place")
