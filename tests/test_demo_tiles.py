"""`demo.py --tile` as a user runs it: results, drawings, label maps and tables of large pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

import demo
from config.base import PROJECT
from data.images import read_image, write_image
from data.picture_windows import open_windows
from data.shapes import draw_scene
from tests.support import tiny
from tests.support.programs import run_main
from tools.predict.instances import Instances
from tools.predict.load import load_predictor
from tools.predict.measures import label_map, write_label_tiff
from tools.predict.tiles import Tiling, predict_tiles

SMALL_MODEL = ("--config=20", "--engine=dynamic")
COLUMNS = 3


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory) -> Path:
    """Return a picture of 768 x 512 pixels: six of shapes."""
    scenes = [draw_scene(rng=np.random.default_rng([5, i]), height=256, width=256) for i in range(2 * COLUMNS)]
    pictures = [scene.image for scene in scenes]
    rows = [np.concatenate(pictures[start : start + COLUMNS], axis=1) for start in (0, COLUMNS)]
    path = tmp_path_factory.mktemp("mosaic") / "large.png"
    write_image(path, np.concatenate(rows))
    return path


def predict(*arguments: object) -> str:
    done = run_main(demo.main, *SMALL_MODEL, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlap(first: dict, others: list[dict]) -> float:
    return float(np.max(coco_mask.iou([first], others, [0] * len(others))))


def test_tiles_find_what_the_parts_show(mosaic, tmp_path):
    """In one run the large picture is reduced to half of the size that the network was trained for."""
    results = {}
    for name, options in (("tiles", ["--tile", "256"]), ("whole", [])):
        predict("--input", mosaic, *options, "--output", tmp_path / name, "--json", tmp_path / f"{name}.json")
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
    parts = []
    for row in range(2):
        for column in range(COLUMNS):
            part = read_image(mosaic)[256 * row : 256 * row + 256, 256 * column : 256 * column + 256]
            write_image(tmp_path / "parts" / f"{row * COLUMNS + column}.png", part)
    predict("--input", tmp_path / "parts", "--no-draw", "--json", tmp_path / "parts.json")
    for found in json.loads((tmp_path / "parts.json").read_text()):
        row, column = divmod(found["image_id"], COLUMNS)
        mask = np.zeros((512, 768), np.uint8, order="F")
        mask[256 * row : 256 * row + 256, 256 * column : 256 * column + 256] = coco_mask.decode(found["segmentation"])
        parts.append(coco_mask.encode(mask))
    shares = {
        name: np.mean([overlap(part, [row["segmentation"] for row in rows]) > 0.7 for part in parts])
        for name, rows in results.items()
    }
    assert shares["tiles"] > 0.75 and shares["tiles"] > shares["whole"]
    drawn = read_image(tmp_path / "tiles" / "large.png")
    assert drawn.shape == (512, 768, 3) and (drawn != read_image(mosaic)).any()


def test_the_results_do_not_depend_on_threads(mosaic, tmp_path):
    for threads in (0, 3):
        output = tmp_path / f"{threads}.json"
        predict("--input", mosaic, "--tile", 256, "--no-draw", "--threads", threads, "--json", output)
    assert (tmp_path / "0.json").read_text() == (tmp_path / "3.json").read_text()


def test_the_api_finds_the_same(mosaic, tmp_path):
    predict("--input", mosaic, "--tile", 256, "--overlap", 0.3, "--no-draw", "--json", tmp_path / "found.json")
    predictor = load_predictor(20, engine="dynamic")
    found = predict_tiles(predictor, open_windows(mosaic), Tiling(256, 0.3))
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["segmentation"] for row in rows] == found.to_rle()


def test_small_pictures_are_predicted_as_without_tiles(tmp_path):
    written = []
    for options in ([], ["--tile", 2048]):
        written.append(tmp_path / f"{len(options)}.json")
        predict("--input", PROJECT / "images/test", *options, "--no-draw", "--json", written[-1])
    assert written[0].read_text() == written[1].read_text()


def test_the_label_map_and_the_table_agree(mosaic, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("skimage")
    table = tmp_path / "table.csv"
    predict("--input", mosaic, "--tile", 256, "--no-draw", "--label-masks", tmp_path / "labels", "--table", table)
    labels = tifffile.imread(tmp_path / "labels" / "large.tif")
    assert labels.dtype == np.uint32 and labels.shape == (512, 768)
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    areas = {int(row["label"]): int(row["area"]) for row in rows}
    assert set(numbers.tolist()) <= set(areas)
    assert all(count <= areas[number] for number, count in zip(numbers.tolist(), counts.tolist()))
    image = read_image(mosaic).mean(axis=2)
    [best] = [row for row in rows if row["label"] == "1"]
    assert float(best["intensity_mean"]) == pytest.approx(image[labels == 1].mean(), rel=0.02)


def test_large_label_maps_are_those_of_small_ones(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    masks = [
        cv2.resize(rng.integers(0, 2, (5, 7), np.uint8), (1300, 700), interpolation=cv2.INTER_NEAREST) for _ in "abc"
    ]
    found = Instances.from_masks(np.array(masks), [0.5, 0.9, 0.7], [0, 0, 0], ["disc"], [1])
    write_label_tiff(found, tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), label_map(found))


def test_drawings_of_very_large_pictures_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr("data.picture_windows.OVERVIEW_SIDE", 300)
    write_image(tmp_path / "large.png", np.tile(tiny.scene(0), (4, 6, 1)))
    height, width = read_image(tmp_path / "large.png").shape[:2]
    predict("--input", tmp_path / "large.png", "--tile", 128, "--output", tmp_path / "drawn", "--score", 0.1)
    factor = -(-max(height, width) // 300)
    drawn = cv2.imread(str(tmp_path / "drawn" / "large.png"))
    assert factor > 1 and drawn.shape[:2] == (-(-height // factor), -(-width // factor))


def test_a_picture_that_cannot_be_read_is_skipped(mosaic, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = run_main(
        demo.main, *SMALL_MODEL, "--tile", 256, "--no-draw", "--json", tmp_path / "a.json",
        "--input", mosaic, tmp_path / "broken.png",
    )  # fmt: skip
    assert done.returncode == 0 and "broken.png: not a picture" in done.stderr
    assert len(json.loads((tmp_path / "a.json").read_text()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "0.2"], "--overlap: add --tile SIDE"),
        (["--tile", "256", "--overlap", "0.6"], "--overlap 0.6: give 0.5 or less"),
        (["--tile", "20"], "--tile 20: give 64 pixels or more"),
        (["--tile", "0"], "--tile"),
    ],
)
def test_options_that_make_no_sense(options, message):
    done = run_main(demo.main, *options)
    assert done.returncode == 2 and message in done.stderr


def test_tiles_that_the_network_sees_reduced_are_named(mosaic, tmp_path):
    options = "--input", mosaic, "--no-draw", "--json", tmp_path / "a.json"
    done = run_main(demo.main, *SMALL_MODEL, *options, "--tile", 512)
    assert "--tile 512: is reduced to 352 pixels for this network; --tile 352 keeps all pixels" in done.stderr
