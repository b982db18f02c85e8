"""The table of instances and the label maps, from the command line, against scikit-image on the whole picture."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

import demo
from config.errors import InputError
from data.images import write_image
from tests.support import tiny
from tests.support.programs import override_options, run_main
from tools.predict.instances import Instances
from tools.predict.measures import COLUMNS, MEASURES, MOST_LABELS, label_map, measure, table_header, table_lines

measures_of = pytest.importorskip("skimage.measure", reason="the extra [table] is not installed")

OPTIONS = (
    f"--config={tiny.CONFIG}",
    "--untrained=0",
    "--engine=dynamic",
    "--score=0",
    *override_options(*tiny.OVERRIDES),
)


def some_instances() -> Instances:
    """An ellipse, a square with a hole at the corner of the picture, two parts, and nothing; the second is the best."""
    masks = np.zeros((4, 60, 90), np.uint8)
    cv2.ellipse(masks[0], (40, 30), (17, 8), 30, 0, 360, 1, -1)
    masks[1, :12, :12], masks[1, 4:8, 4:8] = 1, 0
    masks[2, 50:55, 60:70] = masks[2, 40:43, 60:62] = 1
    masks[1, 30, 35:45] = 1
    return Instances.from_masks(masks, [0.5, 0.9, 0.8, 0.7], [0, 1, 0, 0], ("cell", "a, b"), (1, 2))


@pytest.mark.parametrize("shape", [(60, 90), (60, 90, 3)])
def test_measures_are_those_of_the_whole_picture(shape):
    values = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    found = some_instances()
    rows = measure(found, values, "a.tif")
    assert [row["label"] for row in rows] == [1, 2, 3, 4] and [row["class"] for row in rows][:2] == ["cell", "a, b"]
    grey = values if values.ndim == 2 else values.mean(axis=2)
    for row, mask in zip(rows[:3], found.masks):
        table = measures_of.regionprops_table(
            mask.astype(int), grey, properties=sorted({name.partition("-")[0] for name in MEASURES})
        )
        for name in MEASURES:
            assert float(row[name]) == pytest.approx(table[name][0], rel=1e-5), name
    assert [row["touches_border"] for row in rows[:3]] == [0, 1, 0]
    assert set(COLUMNS[:4]) == rows[3].keys()


@pytest.mark.parametrize(
    ("box", "touches"), [((1, 1, 9, 9), 0), ((0, 1, 9, 9), 1), ((1, 1, 9, 20), 1), ((1, 1, 30, 9), 1)]
)
def test_all_four_borders(box, touches):
    x1, y1, x2, y2 = box
    mask = np.zeros((1, 20, 30), bool)
    mask[0, y1:y2, x1:x2] = True
    (row,) = measure(Instances.from_masks(mask, [1], [0], ("cell",), (1,)), mask[0], "a.png")
    assert row["touches_border"] == touches


def test_a_label_map_has_the_best_instance_on_top():
    labels = label_map(some_instances())
    assert labels.dtype == np.uint16 and sorted(np.unique(labels)) == [0, 1, 2, 3]
    assert labels[30, 40] == 2 and labels[31, 40] == 1 and labels[5, 5] == 0 and labels[52, 65] == 3
    count = MOST_LABELS + 1
    many = Instances.from_masks(np.zeros((count, 1, 1), bool), np.ones(count), np.zeros(count), ("cell",), (1,))
    with pytest.raises(InputError, match="65536 instances: a label map of 16 bits has 65535 at most"):
        label_map(many)


def test_a_name_is_no_formula_of_a_spreadsheet(tmp_path):
    (row,) = measure(
        Instances.from_masks(np.ones((1, 4, 4), bool), [1], [0], ("=1+2",), (1,)), np.ones((4, 4)), "=a.png"
    )
    lines = table_lines([row, {**row, "picture": "b=.png", "class": "cell"}])
    (tmp_path / "a.csv").write_bytes((table_header() + lines).encode())
    assert [(row["picture"], row["class"]) for row in read_table(tmp_path / "a.csv")] == [
        ("./=a.png", "'=1+2"),
        ("b=.png", "cell"),
    ]


def test_the_command_line(tmp_path):
    """Two pictures of one name have a label map each; intensities are those of the file, also when it is stretched."""
    scene = tiny.scene(1).astype(np.uint16)
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "x.png", tiny.scene(0))
    for name, deep in (("dark", 100 + 11 * scene), ("deep", 257 * scene)):
        assert cv2.imwrite(str(tmp_path / f"{name}.tif"), deep[..., ::-1])
    table, masks = tmp_path / "cells.csv", tmp_path / "masks"
    wanted = "--no-draw", "--table", table, "--label-masks", masks
    stretched = override_options("data.stretch=1,99.8,0.7")
    for inputs, names, stretch in (
        ([tmp_path / "a", tmp_path / "b"], ["x.png", "x_2.png"], ()),
        ([tmp_path / "dark.tif"], ["dark.png"], stretched),
        ([tmp_path / "deep.tif"], ["deep.png"], ()),
    ):
        done = run_main(demo.main, *OPTIONS, *stretch, "--input", *inputs, *wanted)
        assert done.returncode == 0, done.stderr
        rows = read_table(table)
        pictures = list(dict.fromkeys(row["picture"] for row in rows))
        assert len(pictures) == len(names) and len(rows) > 2
        for picture, name in zip(pictures, names):
            labels = cv2.imread(str(masks / name), cv2.IMREAD_UNCHANGED)
            own = [row for row in rows if row["picture"] == picture]
            assert labels.dtype == np.uint16 and labels.max() <= len(own) == int(own[-1]["label"])
        assert (float(rows[0]["intensity_mean"]) > 255) == (len(names) == 1)


def test_the_summary_names_the_outputs_and_counts_pictures_without_a_row(tmp_path):
    write_image(tmp_path / "in" / "x.png", tiny.scene(0))
    table, masks, results = tmp_path / "cells.csv", tmp_path / "masks", tmp_path / "found.json"
    wanted = "--no-draw", "--table", table, "--label-masks", masks, "--json", results
    for score, rows in (("--score=0", True), ("--score=1", False)):
        done = run_main(demo.main, *OPTIONS, score, "--input", tmp_path / "in", *wanted)
        assert bool(read_table(table)) == rows
        assert ("1 of the pictures have no instances, and so no row in the table" in done.stdout) == (not rows)
        ends = f"The label maps are in {masks}", f"The results are in {results}", f"The table is in {table}"
        assert done.stdout.endswith("\n".join(ends) + "\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--table=a.csv", "--json=a.csv"), "--json and --table: both name a.csv"),
        (("--label-masks=a", "--output=a"), "--label-masks and --output: both name a"),
    ],
)
def test_outputs_of_one_name_are_one_line(tmp_path, options, says):
    write_image(tmp_path / "x.png", tiny.scene(0))
    done = run_main(demo.main, *OPTIONS, "--input", tmp_path, *options)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--json", "--stats", "--table"])
def test_a_file_does_not_replace_a_drawing(tmp_path, option):
    write_image(tmp_path / "x.png", tiny.scene(0))
    drawn = tmp_path / "drawn"
    done = run_main(demo.main, *OPTIONS, "--input", tmp_path, "--output", drawn, option, drawn / "x.png")
    assert done.returncode == 2 and "x.png: is named like a picture or a drawing" in done.stderr
    assert not drawn.exists()


def test_a_picture_whose_values_cannot_be_read_is_skipped(tmp_path):
    """For the network the alpha of grey values is dropped; as values OpenCV reads them wrongly."""
    tifffile = pytest.importorskip("tifffile")
    write_image(tmp_path / "in" / "a.png", tiny.scene(0))
    grey = np.full((60, 80, 2), 3000, np.uint16)
    tifffile.imwrite(tmp_path / "in" / "b.tif", grey, photometric="minisblack", extrasamples=["unassalpha"])
    wanted = "--no-draw", "--table", tmp_path / "cells.csv"
    done = run_main(demo.main, *OPTIONS, "--input", tmp_path / "in", *wanted)
    assert done.returncode == 0 and "skipped" in done.stderr and "b.tif" in done.stderr
    assert {row["picture"] for row in read_table(tmp_path / "cells.csv")} == {str(tmp_path / "in" / "a.png")}


def test_without_scikit_image_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.predict.demo_options.find_spec", lambda name: None)
    done = run_main(demo.main, *OPTIONS, "--table", tmp_path / "cells.csv")
    assert done.returncode == 2 and "pip install scikit-image" in done.stderr


def read_table(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_an_area_has_all_its_digits():
    masks = np.ones((1, 1111, 1112), bool)
    (row,) = measure(Instances.from_masks(masks, [0.5], [0], ("cell",), (1,)), np.ones((1111, 1112), np.uint8), "a")
    assert row["area"] == 1111 * 1112
