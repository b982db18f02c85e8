"""Statistics of a data set, on squares whose cells are worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_config
from config.base import HeadConfig, TargetConfig
from config.errors import InputError
from data.coco import read_coco
from data.grid_targets import Extents, box_scales, measure_extents
from data.images import read_image
from data.shapes import draw_scene, write_coco
from tests.support.programs import Finished, override_options, run_python
from tests.support.samples import SAMPLES
from tests.support.squares import GRIDS, write_squares
from tools.check_dataset import main
from tools.common import threads
from tools.common.kinds import kind_of
from tools.common.plots import LINE_COLORS
from tools.dataset.plots import class_plot, scale_plot
from tools.dataset.splits import spread_evenly
from tools.dataset.statistics import (
    OVERLAP,
    Measurement,
    count_assignments,
    fit_scale_ranges,
    input_sizes,
    measure,
    suggest,
    sum_counts,
)

NAMES = ("cat", "dog")
# Left, top, side. Grids of 8, 16 and 32 pixels to a cell, for scales 1 to 10, 8 to 20 and 16 to 30.
SCENE = (
    (1, 1, 6),  # fine grid, cell 0, 0
    (9, 1, 6),  # fine grid, cell 0, 1: alone
    (2, 2, 4),  # fine grid, cell 0, 0: shares it with the first; at 1/4 size a fourth of four pixels
    (40, 40, 9),  # fine grid, cell 5, 5: alone; middle grid, cell 2, 2
    (40, 40, 12),  # middle grid, cell 2, 2: shares it with the one before and has no other
    (2, 36, 24),  # coarse grid, cell 1, 0
    (25, 40, 17),  # middle grid, cell 3, 2 and its neighbours 2, 1 and 2, 2 and 3, 1; coarse grid, 1, 1 and 1, 0
    (20, 10, 40),  # in no range
    (61, 5, 1),  # fine grid, cell 0, 7; no pixel remains at 1/4 size, nor at half of the picture's
)


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> list[str]:
    """Return overrides for a training set of SCENE and an empty picture, and a validation set of one square."""
    folder = tmp_path_factory.mktemp("squares")
    train = write_squares(folder, "train", [SCENE, ()], NAMES)
    return [*GRIDS, *train, *write_squares(folder, "val", [SCENE[:1]], NAMES)]


def measure_scene(overrides: list[str], short_side: int) -> tuple[Measurement, HeadConfig, TargetConfig]:
    """Return the measured scene at one size, and the configs of head and targets."""
    config = load_config(20, overrides)
    data = read_coco(config.train_path, config.train_pre_path)
    (found,) = measure(data.records[0], short_sides=[short_side], config=config)
    return found, config.head, config.target


def test_instances_are_counted_on_the_levels_and_cells_of_the_paper(squares):
    found, head, target = measure_scene(squares, 64)
    landing = count_assignments(found, head=head, target=target)
    assert landing.objects.tolist() == [5, 3, 2]
    assert landing.cells.tolist() == [4, 4, 2]
    assert landing.same_centre.tolist() == [2, 2, 0]
    assert landing.any_shared.tolist() == [2, 3, 2]
    assert landing.on_no_level == 1
    assert landing.crowded_out == 3  # the two in cell 0, 0, and the one of 12; that of 9 has the fine grid
    assert landing.nested == 4  # the two in cell 0, 0, and that of 9 in that of 12
    assert (found.lost, found.vanished) == (0, 2)


def test_half_the_size_moves_instances_to_finer_levels(squares):
    found, head, target = measure_scene(squares, 32)
    assert found.size == (32, 32)
    assert measure_scene(squares, 40)[0].size == (64, 64)  # padded
    assert (found.lost, len(found.extents.sides)) == (1, 8)
    landing = count_assignments(found, head=head, target=target)
    assert landing.objects.tolist() == [6, 3, 1]  # 3, 3, 2, 4.5, 6 and 8.5; 12, 8.5 and 20; 20
    assert landing.on_no_level == 0


def test_vanished_instances_have_no_pixel_in_the_targets(squares):
    found, _, soft = measure_scene([*squares, "target.soft_masks=true"], 64)
    assert soft.soft_masks and found.vanished == 0  # a sixteenth of it remains


@given(SAMPLES)
def test_same_cells_as_in_training(sample):
    """Cells, and instances on no level, equal those of grid_targets."""
    head, target = replace(HeadConfig(), num_grids=(9, 4)), replace(TargetConfig(), scale_ranges=(2, 15, 9, 30))
    config = load_config(0).replace(head=head, target=target)
    targets = kind_of(config).targets(sample, (64, 96), config)
    found = Measurement((64, 96), measure_extents(sample.gt_masks, sample.gt_boxes, target), sample.gt_boxes, 0, 0)
    landing = count_assignments(found, head=head, target=target)
    assert landing.cells.tolist() == [(targets.labels[part] >= 0).sum() for part in (slice(81), slice(81, 97))]
    assert landing.on_no_level == len(sample) - len(np.unique(targets.mask_rows))
    assert (landing.same_centre <= landing.any_shared).all() and (landing.any_shared <= landing.objects).all()
    assert sum_counts([landing, landing]).cells.tolist() == (2 * landing.cells).tolist()
    assert sum_counts([landing, landing]).not_learnt == 2 * landing.not_learnt


@given(
    scales=st.lists(st.floats(0, 5000), min_size=1, max_size=30).map(np.array),
    grids=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_fitted_ranges_leave_no_instance_out(scales, grids):
    ranges = fit_scale_ranges(scales, num_grids=grids, present=(1.0, 2048.0))
    lows, highs = np.array(ranges[::2]), np.array(ranges[1::2])
    assert len(lows) == len(grids) and (lows <= highs).all()
    assert ((scales[:, None] >= lows) & (scales[:, None] <= highs)).any(axis=1).all()
    load_config(20, [f"head.num_grids={grids}", f"head.strides={[8] * len(grids)}", f"target.scale_ranges={ranges}"])


def test_fitted_ranges_share_instances_as_cells():
    """With grids of 16 and 4 cells, four fifths of the instances are for the fine one."""
    scales = np.arange(1.0, 101.0)
    ranges = fit_scale_ranges(scales, num_grids=(4, 2), present=(1.0, 50.0))
    border = np.quantile(scales, 0.8)
    assert ranges == (1.0, round(border * OVERLAP**0.5), round(border / OVERLAP**0.5), 100.0)


def crowd(count: int, side: float) -> Measurement:
    """Return squares in a row, one in each cell of the fine grid and two in each cell of the middle one."""
    return squares_at([(8 * index + 4, 4) for index in range(count)], side)


def squares_at(centres: list[tuple[float, float]], side: float) -> Measurement:
    sides, middles = np.full((len(centres), 2), float(side)), np.array(centres, np.float64).reshape(-1, 2)
    boxes = np.hstack([middles - sides / 2, middles + sides / 2])
    return Measurement((64, 64), Extents(middles, sides, sides.prod(axis=1)), boxes, 0, 0)


def test_neighbours_in_one_cell_are_not_nested(squares):
    config = load_config(20, squares)
    for centres, nested in (([(4, 4), (5, 4)], 0), ([(4, 4), (4, 4)], 2)):
        landing = count_assignments(squares_at(centres, 6), head=config.head, target=config.target)
        assert (landing.same_centre[0], landing.nested) == (2, nested)


def test_better_ranges_are_suggested(squares):
    """Squares of 12 pixels share cells of the middle grid; on the fine grid each has its own cell."""
    config = load_config(20, squares)
    suggestion = suggest([crowd(8, 12)], head=config.head, target=config.target)
    assert suggestion.before.crowded_out == 8
    assert suggestion.after.not_learnt == 0
    better = replace(config.target, scale_ranges=suggestion.scale_ranges)
    assert count_assignments(crowd(8, 12), head=config.head, target=better).crowded_out == 0


def test_landing_on_no_level_is_worse_than_sharing(squares):
    """Ranges that exclude nearly all squares have no shared cells, but are worse."""
    config = load_config(20, [*squares, "target.scale_ranges=1,5,5,5,5,11"])
    few = squares_at([(60, 60), (4, 60)], 4)
    suggestion = suggest([crowd(8, 12), few], head=config.head, target=config.target)
    assert suggestion.before.on_no_level == 8 and suggestion.before.same_centre.sum() == 0
    assert suggestion.after.on_no_level == 0 and suggestion.after.same_centre.sum() > 0


@pytest.mark.parametrize(
    "pictures",
    [
        [crowd(8, 6)],  # each has a cell
        [squares_at([(4, 4), (4, 4)], 6)],  # no grid can separate them
        [crowd(8, 6)] * 6 + [crowd(1, 40)],  # to put one more on a level, many others would share cells
        [crowd(0, 6)],
    ],
    ids=["nothing to improve", "nothing to gain", "more to lose", "nothing there"],
)
def test_nothing_is_suggested_without_a_gain(squares, pictures):
    config = load_config(20, squares)
    assert suggest(pictures, head=config.head, target=config.target) is None


def test_sizes_of_training_are_measured():
    assert input_sizes(load_config(1, ["data.short_side=64", "augment.short_sides=()"])) == [64]
    assert input_sizes(load_config(1, ["augment.short_sides=512,352,448"])) == [448, 352, 512]
    assert input_sizes(load_config(1, ["augment.short_sides=448"])) == [448]


def test_scales_are_square_roots_of_areas():
    assert box_scales(np.array([[4.0, 9.0], [0.0, 5.0]])).tolist() == [6.0, 0.0]


def test_limit_spreads_over_the_records():
    assert list(spread_evenly(range(10), 4)) == [0, 2, 5, 7]
    assert list(spread_evenly(range(3), 4)) == list(spread_evenly(range(3), None)) == [0, 1, 2]


def check(*arguments: object) -> int:
    return main(["--config=20", "--processes=0", *map(str, arguments)])


def test_report(squares, tmp_path, capsys):
    assert check(*override_options(*squares), "--output", tmp_path) == 0
    report = capsys.readouterr().out
    assert "2 pictures, 1 of them without an instance, 9 instances; 0 crowds" in report
    assert "classes: 2, the same in" in report
    assert "train: instances in the grids, 2 of 2 pictures" in report
    rows = {line.split()[0]: line.split()[1:] for line in report.splitlines() if line.startswith(NAMES)}
    assert rows == {"cat": ["1", "5", "1"], "dog": ["2", "4", "0"]}
    assert "val: 1 of 2 classes have no instance" in report
    middle = next(line for line in report.splitlines() if line.startswith("  4 x 4"))
    assert [int(number) for number in middle.split()[-4:]] == [3, 4, 2, 3]
    assert "1 instances are on no level, 3 are crowded out on all their levels" in report
    assert "2 masks are empty at the size of the targets" in report
    pictures = {"classes_train.png", "classes_val.png", "scales_train_64.png", "scales_val_64.png"}
    assert {path.name for path in tmp_path.glob("[!.]*")} == pictures


def test_suggestion_is_an_option_that_works(tmp_path, capsys):
    row = [(16 * index + left, 0, 7) for index in range(4) for left in (0, 8)]
    paths = write_squares(tmp_path, "train", [row], NAMES)
    ranges = "target.scale_ranges=1,2,5,20,16,30"
    assert check(*override_options(*GRIDS, *paths, ranges), "--split=train", "--output", tmp_path / "before") == 0
    (line,) = re.findall(r"-o (target\.scale_ranges=\S+)", capsys.readouterr().out)
    assert check(*override_options(*GRIDS, *paths, line), "--split=train", "--output", tmp_path / "after") == 0
    report = capsys.readouterr().out
    assert "0 instances are on no level, 0 are crowded out" in report and "-o target" not in report


def test_problems_are_named(squares, tmp_path, capsys):
    paths = write_squares(tmp_path, "train", [SCENE, ()], NAMES)
    (tmp_path / "train" / "2.png").unlink()
    assert check(*override_options(*GRIDS, *paths), "--split=train", "--limit=1", "--output", tmp_path) == 0
    assert re.search(r"1 image not found in .*, left out: .*train\.json image 2 '2\.png'", capsys.readouterr().out)


@pytest.mark.parametrize("split", ["train", "val"])
def test_data_set_without_any_instance_is_an_error(squares, tmp_path, capsys, split):
    paths = write_squares(tmp_path, split, [(), ()], NAMES)
    with pytest.raises(InputError, match=rf"{split}\.json: no picture has a usable annotation; annotate some pictures"):
        check(*override_options(*squares, *paths), "--output", tmp_path)
    report = capsys.readouterr().out
    assert "2 pictures, 2 of them without an instance" in report
    assert report.count("nothing is wrong") == 1  # with the other file


def test_validation_pictures_that_are_trained_on_are_named(squares, tmp_path, capsys):
    paths = write_squares(tmp_path, "val", [SCENE, ()], NAMES)  # the same pictures as for training, in another folder
    assert check(*override_options(*squares, *paths), "--output", tmp_path / "drawings") == 0
    assert "2 of 2 pictures of" in (report := capsys.readouterr().out) and "have the name and content of" in report


def test_other_classes_are_an_error(squares, tmp_path):
    more = write_squares(tmp_path, "val", [SCENE], (*NAMES, "hen"))
    with pytest.raises(InputError, match=r"1 category id of .*val\.json is not in .*: 3 'hen'; "):
        check(*override_options(*squares, *more[:2]), "--output", tmp_path)
    (tmp_path / "renamed.txt").write_text("cat\nwolf")
    with pytest.raises(InputError, match=r"train\.json has other category names .*2 is 'dog' and was 'wolf'"):
        check(*override_options(*squares, f"classes_path={tmp_path / 'renamed.txt'}"), "--output", tmp_path)
    with pytest.raises(InputError, match=r"1 category id of .*classes\.txt is not in .*train\.json: 3 'hen'"):
        check(*override_options(*squares, more[2]), "--output", tmp_path)


def command_line(*arguments: object) -> Finished:
    return run_python("tools/check_dataset.py", "--config=20", *arguments)


def test_processes_decode_the_same(squares, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threads, "MANY_ITEMS", 1)
    for processes in (0, 1):
        assert (
            main(["--config=20", *override_options(*squares), f"--processes={processes}", f"--output={tmp_path}"]) == 0
        )
    printed = capsys.readouterr().out
    half = len(printed) // 2
    assert printed[:half] == printed[half:] and f"The drawings are in {tmp_path}" in printed


def test_mistake_is_one_line(squares, tmp_path):
    done = command_line(*override_options(*squares, f"train_path={tmp_path / 'none.json'}"), "--output", tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "none.json: cannot be read" in done.stderr


def test_class_plot_leaves_out_rare_classes():
    many = class_plot([f"class {index}" for index in range(300)], np.arange(300), title="")
    few = class_plot([f"class {index}" for index in range(100)], np.arange(100), title="")
    assert many.shape[0] < few.shape[0] + 100 and many.dtype == np.uint8


@pytest.mark.parametrize("scales", [[], [0.0], [0.0, 1.0, 4000.0], [7.5] * 9], ids=str)
def test_scale_plot_shows_each_level(scales):
    levels = {"now": (["fine", "coarse"], (0, 48, 24, 2048)), "then": (["fine", "coarse"], (0, 1, 1, 1))}
    drawn = scale_plot(np.array(scales), levels, title="squares")
    assert drawn.dtype == np.uint8 and drawn.ndim == 3
    for color in LINE_COLORS[:2]:
        assert (drawn == color).all(axis=-1).any()


def test_scale_plot_is_written_as_it_is(squares, tmp_path):
    check(*override_options(*squares), "--split=val", "--output", tmp_path)
    assert read_image(tmp_path / "scales_val_64.png").shape[1] == 1280


def test_pictures_that_look_the_same_in_both_splits_are_named_once(tmp_path, capsys):
    scenes = [draw_scene(rng=np.random.default_rng(number), height=96, width=96) for number in range(3)]
    for split, chosen in (("train", scenes), ("val", scenes[2:])):
        write_coco(scenes=chosen, output=tmp_path / split)
    paths = [
        text
        for split in ("train", "val")
        for text in (
            f"{split}_path={tmp_path / split / 'annotations.json'}",
            f"{split}_pre_path={tmp_path / split / 'images'}",
        )
    ]
    picture = next((tmp_path / "val" / "images").iterdir())
    picture.rename(picture.with_name("other.jpg"))
    annotations = tmp_path / "val" / "annotations.json"
    annotations.write_text(annotations.read_text().replace(picture.name, "other.jpg"))
    options = ["--config=20", *override_options(*paths), "--output", str(tmp_path / "plots"), "--processes=0"]
    for extra, expected in (([], 1), (["--no-compare"], 0)):
        assert main([*options, *extra]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "look nearly the same" in line]
        assert len(lines) == expected
    assert main(options) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "look nearly the same" in line]
    assert line.startswith("1 of 1 pictures of ") and "'other.jpg' ('" in line
