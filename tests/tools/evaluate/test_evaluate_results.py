"""AP of COCO results files that exist already, through the command line of `eval.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import eval as evaluation
from tests.support import coco_results, trainings
from tests.support.coco_results import CAT, DOG, annotation, data_set, row
from tests.support.programs import Finished, override_options, run_main

BOX = (10, 10, 30, 40)
RESULT = row(1, CAT, BOX, 0.9)
EMPTY = {**RESULT, "segmentation": coco_results.rectangle(0, 0, 0, 0)}


def read_results(folder: Path, *arguments: object, **changes: object) -> Finished:
    """Run eval.py on results of two pictures with a cat each, which are not needed. changes: of the annotations."""
    content = {**data_set(annotation(1, CAT, BOX), annotation(2, CAT, BOX), pictures=2), **changes}
    (folder / "val.json").write_text(json.dumps(content))
    paths = override_options(f"val_path={folder / 'val.json'}", "val_pre_path=nowhere")
    return run_main(evaluation.main, f"--config={trainings.CONFIG}", *paths, "--results", *arguments)


def write_rows(path: Path, *rows: dict, without: str = "") -> Path:
    path.write_text(json.dumps([{key: value for key, value in row.items() if key != without} for row in rows]))
    return path


def table_of(done: Finished) -> dict[str, list[str]]:
    """Return the numbers of each line of the table, by its first word."""
    assert (done.returncode, done.stderr) == (0, "")
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}


def test_masks_and_boxes_of_one_or_two_files(tmp_path):
    moved = row(2, CAT, (60, 60, 30, 40), 0.8)  # beside the second cat
    both = write_rows(tmp_path / "both.json", RESULT, moved)
    masks = write_rows(tmp_path / "masks.json", RESULT, moved, without="bbox")
    boxes = write_rows(tmp_path / "boxes.json", RESULT, row(2, CAT, BOX, 0.8), without="segmentation")
    table = table_of(read_results(tmp_path, masks, boxes))
    assert (table["mask"][:2], table["box"][:2]) == (["50.5", "50.5"], ["100.0", "100.0"])
    table = table_of(read_results(tmp_path, both, "--classwise"))
    assert table["mask"][:2] == table["box"][:2] == ["50.5", "50.5"]
    assert table["cat"] == ["2", "50.5", "50.5", "50.5", "50.5"]
    table = table_of(read_results(tmp_path, masks, "--classwise"))
    assert table["mask"][:2] == ["50.5", "50.5"] and "box" not in table
    assert table["cat"] == ["2", "50.5", "50.5"]
    assert table["2"] == ["pictures", "of", str(tmp_path / "val.json")]
    half = write_rows(tmp_path / "half.json", RESULT)
    assert f"2 pictures of {tmp_path / 'val.json'}, 1 of them without a result" in read_results(tmp_path, half).stdout


@pytest.mark.parametrize("rows", [(), (EMPTY,)])
def test_results_of_nothing_and_of_an_empty_mask(tmp_path, rows):
    masks = write_rows(tmp_path / "masks.json", *rows, without="bbox")
    assert table_of(read_results(tmp_path, masks))["mask"][0] == "0.0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[{", ["not JSON"]),
        ('{"images": []}', ["a list of objects"]),
        ("[1]", ["a list of objects"]),
        ([{**RESULT, "image_id": 77}], ["index 0", "unknown image"]),
        ([{**RESULT, "image_id": None}], ["unknown image"]),
        ([RESULT, {**RESULT, "category_id": 77}], ["index 1", "unknown category"]),
        ([{**RESULT, "score": None}], ["finite score"]),
        ([{**RESULT, "score": float("nan")}], ["finite score"]),
        ([{**RESULT, "score": 10**400}], ["finite score"]),
        ([{**RESULT, "score": True}], ["finite score"]),
        ([{**RESULT, "box_score": "x"}], ["finite score"]),
        ([{**RESULT, "segmentation": [[1, 1, 9, 9, 1, 9]]}], ["RLE"]),
        ([{**RESULT, "segmentation": {"size": [100, 100], "counts": "x"}}], ["runs do not fill the picture"]),
        ([{**RESULT, "segmentation": {"size": [64, 65], "counts": "PP4"}}], ["size is not the picture's"]),
        ([{**RESULT, "bbox": [1, 2, 3]}], ["bbox"]),
        ([{**RESULT, "bbox": [1, 2, -3, 4]}], ["bbox"]),
    ],
    ids=str,
)
def test_results_files_that_cannot_be_used_are_one_line(tmp_path, content, words):
    path = tmp_path / "rows.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    done = read_results(tmp_path, path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in [str(path), *words])


def test_an_unusable_entry_of_the_annotations_is_named(tmp_path):
    path = write_rows(tmp_path / "rows.json", RESULT, row(2, CAT, BOX, 0.8))
    first = data_set(pictures=1)["images"]
    done = read_results(tmp_path, path, images=[*first, {"id": 2, "file_name": "b.jpg", "height": 9, "width": 0}])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "unknown image; 1 image " in done.stderr and f"left out: {tmp_path / 'val.json'} image 2" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--weights=a",),
        ("--untrained=1",),
        ("--engine=onnx",),
        ("--precision=bf16",),
        ("--device=cpu",),
        ("--output=a",),
        ("--images=a",),
        ("b", "c"),
        (),
    ],
    ids=str,
)
def test_options_for_a_network_and_missing_files_are_one_line(tmp_path, options):
    done = read_results(tmp_path, tmp_path / "a.json", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert ("--results" if options else "a.json: cannot be read") in done.stderr


def test_scores_below_the_least_do_not_count(tmp_path):
    masks = write_rows(tmp_path / "masks.json", RESULT, row(2, CAT, (60, 60, 30, 40), 0.2))
    assert table_of(read_results(tmp_path, masks, "-o", "eval_cfg.score=0.5"))["mask"][0] == "50.5"


def test_results_with_names_belong_to_the_pictures_of_these_names(tmp_path):
    """demo.py and eval.py --images count the pictures themselves."""
    names = {image["id"]: image["file_name"] for image in data_set(pictures=2)["images"]}
    swapped = [{**row(3 - one, CAT, BOX, 0.9), "file_name": f"folder/{names[one]}"} for one in (1, 2)]
    moved = [{**annotation(1, CAT, BOX)}, {**annotation(2, CAT, (50, 50, 12, 9))}]
    swapped[1] = {**row(1, CAT, (50, 50, 12, 9), 0.9), "file_name": names[2]}
    masks = write_rows(tmp_path / "masks.json", *swapped)
    content = data_set(*moved, pictures=2)
    assert table_of(read_results(tmp_path, masks, annotations=content["annotations"]))["mask"][0] == "100.0"


def test_names_in_subfolders_are_told_apart_and_unknown_names_refused(tmp_path):
    content = data_set(annotation(1, CAT, BOX), annotation(2, CAT, (50, 50, 12, 9)), pictures=2)
    images = [{**image, "file_name": f"{folder}/well.png"} for image, folder in zip(content["images"], "ab")]
    content = {"images": images, "annotations": content["annotations"]}
    swapped = [{**row(2, CAT, BOX, 0.9), "file_name": "/photos/a/well.png"}]
    swapped.append({**row(1, CAT, (50, 50, 12, 9), 0.9), "file_name": "/photos/b/well.png"})
    masks = tmp_path / "masks.json"
    assert table_of(read_results(tmp_path, write_rows(masks, *swapped), **content))["mask"][0] == "100.0"
    for name, reason in (("well.png", "several annotated pictures in other folders have"), ("c.png", "no annotated")):
        done = read_results(tmp_path, write_rows(masks, {**RESULT, "file_name": name}), **content)
        assert done.returncode == 2 and f"is a result of '{name}', a name that {reason}" in done.stderr


def test_annotations_without_an_instance_are_refused(tmp_path):
    masks = write_rows(tmp_path / "masks.json", RESULT)
    done = read_results(tmp_path, masks, annotations=[])
    assert done.returncode == 2 and "val.json: has no usable instance" in done.stderr


def test_other_categories_of_the_annotations_may_have_no_results(tmp_path):
    masks = write_rows(tmp_path / "masks.json", RESULT, row(2, DOG, BOX, 0.9))
    assert table_of(read_results(tmp_path, masks))["mask"][:2] == ["50.5", "50.5"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    done = read_results(tmp_path, tmp_path / "results.json")
    assert done.returncode == 2 and "results.json: cannot be read (a pipe or a device" in done.stderr
