"""Test the annotations that the demo writes: each format gives the masks again, and files are where they should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import demo
from config.base import PROJECT
from data.images import write_image
from data.shapes import CLASS_NAMES
from tests.support import tiny
from tests.support.programs import run_main
from tools import labelme2coco, yolo2coco
from tools.predict.annotation_files import coco_instances, labelme_json, yolo_lines
from tools.predict.instances import Instances
from tools.predict.outlines import MIN_IOU

PICTURES = sorted((PROJECT / "images" / "test").glob("*.jpg"))[:3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder with all outputs of the demo for three pictures, which are in photos/."""
    folder = tmp_path_factory.mktemp("annotated")
    for path in PICTURES:
        (folder / "photos").mkdir(exist_ok=True)
        shutil.copy(path, folder / "photos")
    options = [f"--labelme={folder / 'photos'}", f"--yolo={folder / 'yolo'}", f"--coco={folder / 'coco.json'}"]
    done = run_main(demo.main, "--input", folder / "photos", "--no-draw", "--json", folder / "found.json", *options)
    assert done.returncode == 0, done.stderr
    for name in ("labelme files are in", "YOLO data set is in", "annotations are in"):
        assert f"The {name} {folder}" in done.stdout
    return folder


def masks_by_picture(path: Path) -> dict[str, list[tuple[str, dict]]]:
    """Return the class and the RLE of each instance by the name of its picture."""
    coco = COCO(str(path))
    return {
        Path(image["file_name"]).name: [
            (coco.cats[row["category_id"]]["name"], coco.annToRLE(row)) for row in coco.imgToAnns[image["id"]]
        ]
        for image in coco.imgs.values()
    }


@pytest.mark.parametrize("format_name", ["labelme", "yolo", "coco"])
def test_each_format_gives_the_masks_again(written, tmp_path, format_name):
    output = tmp_path / "again.json"
    if format_name == "labelme":
        assert labelme2coco.main([str(written / "photos"), "--output", str(output)]) == 0
    elif format_name == "yolo":
        assert yolo2coco.main([str(written / "yolo" / "data.yaml"), "--output", str(output)]) == 0
    else:
        output = written / "coco.json"
    again = masks_by_picture(output)
    assert sorted(again) == sorted(path.name for path in PICTURES)
    rows = json.loads((written / "found.json").read_text())
    assert len(rows) == sum(map(len, again.values())) > 10
    for row in rows:
        others = again[Path(row["file_name"]).name]
        same = [rle for name, rle in others if name == CLASS_NAMES[row["category_id"] - 1]]
        assert coco_mask.iou([row["segmentation"]], same, [0] * len(same)).max() >= MIN_IOU


def test_a_data_set_for_yolo_has_its_pictures_and_names(written):
    yolo = written / "yolo"
    for path in PICTURES:
        assert (yolo / "images" / path.name).read_bytes() == path.read_bytes()
        assert (yolo / "labels" / f"{path.stem}.txt").read_text()
    assert (yolo / "classes.txt").read_text().splitlines() == list(CLASS_NAMES)


def test_labelme_files_name_pictures_relative_to_them(written):
    content = json.loads((written / "photos" / f"{PICTURES[0].stem}.json").read_text())
    assert content["imagePath"] == PICTURES[0].name and content["imageData"] is None
    assert all(0 <= shape["score"] <= 1 for shape in content["shapes"])


def test_annotations_that_were_corrected_are_not_overwritten(tmp_path):
    for path in PICTURES[:1]:
        shutil.copy(path, tmp_path)
    options = "--input", tmp_path / PICTURES[0].name, "--no-draw", "--labelme", tmp_path
    assert run_main(demo.main, *options).returncode == run_main(demo.main, *options).returncode == 0
    file = tmp_path / f"{PICTURES[0].stem}.json"
    file.write_text(file.read_text() + " ")
    done = run_main(demo.main, *options)
    assert done.returncode == 2 and f"{file}: not written by this project, or changed since" in done.stderr


def ring_and_two_parts():
    masks = np.zeros((3, 60, 80), bool)  # the last one is empty
    masks[0, 5:45, 5:45] = True
    masks[0, 15:35, 15:35] = False
    masks[1, 10:20, 50:60] = masks[1, 40:50, 60:75] = True
    return Instances.from_masks(masks, [0.9, 0.8, 0.7], [0, 1, 0], ("ring", "pair"), (3, 7))


def test_holes_and_parts(tmp_path):
    found = ring_and_two_parts()
    shapes = json.loads(labelme_json(found, tmp_path / "a" / "x.png", tmp_path / "b" / "x.json"))
    assert shapes["imagePath"] == "../a/x.png"
    kinds = [(shape["label"], shape["shape_type"], shape["group_id"]) for shape in shapes["shapes"]]
    assert kinds == [("ring", "mask", None), ("pair", "polygon", 2), ("pair", "polygon", 2)]
    lines = yolo_lines(found).splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    (ring_id, ring), (pair_id, pair) = coco_instances(found)
    assert (ring_id, pair_id) == (3, 7) and ring.polygons is None and len(pair.polygons) == 2
    for instance, mask in zip((ring, pair), found.masks):
        np.testing.assert_array_equal(coco_mask.decode(instance.rle).astype(bool), mask)


def test_pictures_of_one_name_have_labels_and_copies_of_one_name(tmp_path):
    for name in ("a/x.png", "b/x.png", "a/x.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, tiny.scene(0))
    options = "--input", tmp_path / "a", tmp_path / "b", "--no-draw", "--yolo", tmp_path / "yolo", "--untrained=0"
    assert run_main(demo.main, *tiny.OPTIONS, *options).returncode == 0
    stems = {
        kind: sorted(path.stem for path in (tmp_path / "yolo" / kind).glob("[!.]*")) for kind in ("images", "labels")
    }
    assert stems["images"] == stems["labels"] == ["x", "x_2", "x_3"]
