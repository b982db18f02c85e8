"""Annotations and pictures that an annotation file has more than once."""

from __future__ import annotations

import copy

import pytest

from tests.support.coco_files import read, valid_content


def merged_with_itself() -> dict:
    content = valid_content()
    content["annotations"] += [{**row, "id": row["id"] + 100} for row in copy.deepcopy(content["annotations"])]
    return content


def test_annotations_repeated_with_new_ids_are_counted_and_kept(tmp_path):
    coco = read(tmp_path, merged_with_itself())
    assert (coco.instances, coco.crowds) == (8, 2)
    assert coco.problems.lines() == [
        "5 annotations with the category and outline of an earlier one of the same image, kept; remove the copies: "
        f"{tmp_path / 'train.json'} annotation 200 (image 5), 202 (image 5), 203 (image 5), 201 (image 2), "
        "204 (image 2)"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"category_id": 3},
        {"image_id": 2},
        {"segmentation": [[10, 10, 20, 10, 20, 20.5, 10, 20.25]]},
        {"segmentation": [[10, 10, 20, 10, 20, 20.5, 10, 20.5]] * 2},
        {"iscrowd": 1},
    ],
    ids=["category", "image", "corner", "polygons", "crowd"],
)
def test_similar_annotations_are_no_copies(tmp_path, changes):
    content = valid_content()
    content["annotations"].append({**content["annotations"][0], "id": 1, **changes})
    assert read(tmp_path, content).problems.lines() == []


def test_a_file_of_two_images_is_named_and_can_be_evaluated(tmp_path):
    content = valid_content()
    content["images"][1]["file_name"] = "./5.jpg"
    coco = read(tmp_path, content, keep_empty=True)
    assert coco.problems.lines() == [
        "1 file name of more than one image, kept; give each file one image id: "
        f"{tmp_path / 'train.json'} file name '5.jpg' (images 5, 2)"
    ]
    assert len(coco.records) == 3 and not coco.problems.count("image")
