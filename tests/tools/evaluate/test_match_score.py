"""The match score S, counted by hand, against a slow version, and its way from training to a demo's threshold."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from config.errors import InputError
from tests.support.coco_results import CAT, DOG, annotation, data_set, row, truth_of
from tools.evaluate.coco_metrics import IOU_THRESHOLDS
from tools.evaluate.match_score import best_match, match_at, match_curve, match_table

A, B, C = (0, 0, 10, 10), (40, 40, 10, 10), (70, 10, 10, 10)
EIGHTY = (0, 0, 10, 8)  # its IoU with A is 0.8


def curve_of(content: dict, *rows: dict):
    truth = truth_of(content)
    return match_curve(truth, rows, truth.image_ids)


def test_everything_is_found_and_nothing_else():
    curve = curve_of(data_set(annotation(1, CAT, A), annotation(1, DOG, B)), row(1, CAT, A, 0.9), row(1, DOG, B, 0.5))
    found = match_at(curve, 0.5)
    assert found.by_iou == (1.0,) * 10 and (found.s, found.f1, found.precision, found.recall) == (1, 1, 1, 1)
    assert (found.count_error, found.bias) == (0, 0)
    half = match_at(curve, 0.6)
    assert half.s == 0.5 and (half.precision, half.recall, half.count_error, half.bias) == (1, 0.5, 1, -0.5)


def test_nothing_found_has_no_precision_and_other_categories_do_not_count():
    content = data_set(annotation(1, CAT, A))
    found = match_at(curve_of(content), 0.5)
    assert (found.precision, found.recall, found.f1, found.s) == (0, 0, 0, 0)
    unknown = {**row(1, CAT, B, 0.9), "category_id": 77}
    found = match_at(curve_of(content, row(1, CAT, A, 0.9), unknown), 0.5)
    assert (found.precision, found.recall, found.s, found.bias) == (1, 1, 1, 0)


def test_a_rough_mask_counts_up_to_its_iou():
    found = match_at(curve_of(data_set(annotation(1, CAT, A)), row(1, CAT, EIGHTY, 0.9)), 0.5)
    assert found.by_iou == (1.0,) * 7 + (0.0,) * 3 and found.s == pytest.approx(0.7)


def test_pictures_count_equally_and_empty_ones_too():
    content = data_set(annotation(1, CAT, A), annotation(1, CAT, B), annotation(2, CAT, C), pictures=4)
    rows = [row(1, CAT, A, 0.9), row(2, CAT, C, 0.9), row(4, CAT, C, 0.4)]
    curve = curve_of(content, *rows)
    assert match_at(curve, 0.5).s == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert match_at(curve, 0.3).s == pytest.approx((0.5 + 1 + 1 + 0) / 4)


def test_the_best_threshold_is_the_middle_of_those_with_the_highest_s():
    content = data_set(annotation(1, CAT, A), annotation(1, CAT, B))
    curve = curve_of(content, row(1, CAT, A, 0.8), row(1, CAT, B, 0.6), row(1, CAT, C, 0.2))
    assert 0.38 <= best_match(curve).threshold <= 0.43


def test_classes_crowds_and_a_second_mask_of_one_object():
    crowd = {**annotation(1, CAT, C), "iscrowd": 1}
    content = data_set(annotation(1, CAT, A), annotation(1, DOG, B), crowd)
    rows = [
        row(1, CAT, A, 0.9),
        row(1, CAT, EIGHTY, 0.8),  # the object is taken
        row(1, CAT, B, 0.9),  # another class
        row(1, CAT, C, 0.9),  # in the crowd: left out
    ]
    found = match_at(curve_of(content, *rows), 0.5)
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), 0.5) and found.s == pytest.approx(1 / 4)


def test_pictures_that_the_annotations_lack():
    with pytest.raises(InputError, match="lacks 1 of the 1 evaluated pictures"):
        match_curve(truth_of(data_set(annotation(1, CAT, A))), [], {5})


def test_the_table():
    text = match_table(match_at(curve_of(data_set(annotation(1, CAT, A)), row(1, CAT, EIGHTY, 0.9)), 0.25))
    assert text.splitlines() == [
        "score of 0.25 or more",
        "IoU      mean   0.50   0.55   0.60   0.65   0.70   0.75   0.80   0.85   0.90   0.95",
        "S       0.700  1.000  1.000  1.000  1.000  1.000  1.000  1.000  0.000  0.000  0.000",
        "at IoU 0.5: F1 1.000, precision 1.000, recall 1.000",
        "count: 0.0 instances a picture more or less than annotated, +0.0% in all",
    ]


def slow_s(content: dict, rows: list[dict], threshold: float) -> float:
    """Compute S as the benchmark states it, one comparison after another."""
    truth, values = truth_of(content), []
    objects = defaultdict(list)
    for item in truth.objects:
        objects[item["image_id"]].append(item)
    for image_id in sorted(truth.image_ids):
        shown = [found for found in rows if found["image_id"] == image_id and found["score"] >= threshold]
        for iou in IOU_THRESHOLDS:
            free, hits = list(objects[image_id]), 0
            for found in sorted(shown, key=lambda found: -found["score"]):
                pairs = [
                    (coco_mask.iou([found["segmentation"]], [item["segmentation"]], [0])[0, 0], -place)
                    for place, item in enumerate(free)
                    if item["category_id"] == found["category_id"]
                ]
                best, place = max(pairs, default=(0, 0))
                if best >= iou:
                    free.pop(-place)
                    hits += 1
            total = len(shown) + len(objects[image_id]) - hits
            values.append(hits / total if total else 1.0)
    return float(np.mean(values))


BOXES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9), st.integers(1, 9))
PLACES = st.tuples(st.integers(1, 2), st.sampled_from([CAT, DOG]), BOXES)


@settings(max_examples=60)
@given(st.lists(PLACES, max_size=5), st.lists(st.tuples(PLACES, st.integers(1, 99)), max_size=7), st.integers(0, 99))
def test_s_is_that_of_a_slow_version(objects, found, threshold):
    content = data_set(*(annotation(*place) for place in objects), pictures=2)
    scores = {score: (*place, score / 100) for place, score in found}  # no equal scores, whose order is open
    rows = [row(*values) for values in scores.values()]
    curve = curve_of(content, *rows)
    assert match_at(curve, threshold / 100).s == pytest.approx(slow_s(content, rows, threshold / 100))
