"""AP worked out by hand on tiny data sets, and compared with pycocotools on the files that it reads."""

import copy
import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config.errors import InputError
from tests.support.coco_results import (
    CAT,
    DOG,
    NAMES,
    SIDE,
    annotation,
    data_set,
    pycocotools_evaluation,
    rectangle,
    row,
    truth_in,
    truth_of,
)
from tests.support.parity import COCO_TINY, needs_coco
from tools.evaluate.coco_metrics import (
    PictureQuality,
    box_precision,
    compare_instances,
    evaluate_coco,
    mask_precision,
    match_instances,
    summary_table,
)


def evaluate(content: dict, *rows: dict, image_ids=None):
    truth = truth_of(content)
    return evaluate_coco(truth, rows, truth.image_ids if image_ids is None else image_ids)


A, B, C = (0, 0, 10, 10), (40, 40, 10, 10), (70, 10, 10, 10)


def test_ap_is_1_if_everything_is_found():
    content = data_set(annotation(1, CAT, A), annotation(1, DOG, B), annotation(2, CAT, C), pictures=2)
    evaluation = evaluate(content, row(1, CAT, A, 0.3), row(1, DOG, B, 0.1), row(2, CAT, C, 0.9))
    for result in (evaluation.mask, evaluation.box):
        assert result.summary["AP"] == result.summary["AP50"] == result.summary["APs"] == pytest.approx(1)
        assert [(part.name, part.objects) for part in result.classes] == [("cat", 2), ("dog", 1)]
        assert result.precision.shape == (10, 101, 2)
    assert (evaluation.pictures, evaluation.left_out) == (2, 0)


def test_ap_is_0_if_nothing_is_found_and_undefined_without_objects():
    evaluation = evaluate(data_set(annotation(1, CAT, A)))
    for result in (evaluation.mask, evaluation.box):
        assert result.summary == {**dict.fromkeys(NAMES, 0.0), **dict.fromkeys(("APm", "APl", "ARm", "ARl"))}
        assert [part.ap for part in result.classes] == [0.0, None]
        assert np.isnan(result.precision[..., 1]).all()
        assert not result.precision[..., 0].any()


def test_no_objects_and_no_pictures():
    false = row(1, CAT, A, 0.5)
    for evaluation in (evaluate(data_set()), evaluate(data_set(), false), evaluate(data_set(), image_ids=())):
        assert evaluation.mask.summary == evaluation.box.summary == dict.fromkeys(NAMES)


@pytest.mark.parametrize(
    ("rows", "ap"),
    [
        # Precision 1 at the 51 recalls from 0 to 0.5, 0 at the other 50.
        pytest.param([row(1, CAT, A, 0.9)], 51 / 101, id="one of two"),
        # The second of A is false: precision is 2/3 at the recalls above 0.5.
        pytest.param(
            [row(1, CAT, A, 0.9), row(1, CAT, A, 0.8), row(1, CAT, B, 0.7)], (51 + 50 * 2 / 3) / 101, id="duplicate"
        ),
        pytest.param([row(1, CAT, A, 0.9), row(1, CAT, B, 0.8), row(1, CAT, B, 0.7)], 1, id="late duplicate"),
        pytest.param([row(1, DOG, A, 0.9), row(1, DOG, B, 0.8)], 0, id="wrong class"),
        # 1/2, then 2/3: precision is the best of this recall and above.
        pytest.param([row(1, CAT, C, 0.9), row(1, CAT, A, 0.8), row(1, CAT, B, 0.7)], 2 / 3, id="false one first"),
    ],
)
def test_two_objects(rows, ap):
    evaluation = evaluate(data_set(annotation(1, CAT, A), annotation(1, CAT, B)), *rows)
    for result in (evaluation.mask, evaluation.box):
        assert result.summary["AP"] == pytest.approx(ap)
        assert (result.classes[0].ap, result.classes[0].ap50) == (pytest.approx(ap), pytest.approx(ap))


@pytest.mark.parametrize("ids", [(-7, 2), (2**63 - 1, 2**63), (2**70, 2**70 + 1)])
def test_ids_may_be_negative_or_exceed_64_bits(ids):
    content = data_set(annotation(1, CAT, A), annotation(2, DOG, B), pictures=2)
    categories = dict(zip((CAT, DOG), ids))
    for image, new in zip(content["images"], ids):
        image["id"] = new
    for category in content["categories"]:
        category["id"] = categories[category["id"]]
    for item, image_id in zip(content["annotations"], ids):
        item.update(image_id=image_id, category_id=categories[item["category_id"]])
    rows = [row(ids[0], ids[0], A, 0.9), row(ids[1], ids[1], B, 0.8)]
    evaluation = evaluate(content, *rows)
    assert evaluation.mask.summary["AP"] == evaluation.box.summary["AP"] == pytest.approx(1)


def test_a_false_positive_counts_only_if_its_picture_is_evaluated():
    content, rows = data_set(annotation(1, CAT, A), pictures=2), [row(1, CAT, A, 0.8), row(2, CAT, A, 0.9)]
    assert evaluate(content, *rows).mask.summary["AP"] == pytest.approx(1 / 2)
    assert evaluate(content, *rows, image_ids=[1]).mask.summary["AP"] == pytest.approx(1)
    assert evaluate(content, *rows, image_ids=[2]).mask.classes[0].objects == 0
    with pytest.raises(InputError, match="lacks 1 of the 2 evaluated pictures, for example image id 9"):
        evaluate(content, image_ids=[1, 9])


def test_an_overlap_counts_up_to_its_iou():
    evaluation = evaluate(data_set(annotation(1, CAT, A)), row(1, CAT, (0, 0, 10, 6), 0.5))  # IoU 0.6: 3 of 10
    for result in (evaluation.mask, evaluation.box):
        assert result.summary["AP"] == pytest.approx(0.3)
        assert (result.summary["AP50"], result.summary["AP75"]) == (pytest.approx(1), 0)


def test_sizes_go_by_the_mask_for_masks_and_by_the_box_for_boxes():
    """A false positive with a small mask and a medium box counts among the small masks and the medium boxes."""
    false = {**row(1, CAT, (0, 50, 40, 40), 0.9), "segmentation": rectangle(0, 50, 10, 10)}
    content = data_set(annotation(1, CAT, A), annotation(1, CAT, (50, 50, 40, 40)))
    evaluation = evaluate(content, false, row(1, CAT, A, 0.8), row(1, CAT, (50, 50, 40, 40), 0.7))
    assert [evaluation.mask.summary[name] for name in ("APs", "APm")] == pytest.approx([1 / 2, 1])
    assert [evaluation.box.summary[name] for name in ("APs", "APm")] == pytest.approx([1, 1 / 2])


def test_results_in_a_crowd_are_ignored_and_crowds_are_no_objects():
    content = data_set(annotation(1, CAT, A), annotation(1, CAT, (40, 40, 50, 50), iscrowd=1))
    evaluation = evaluate(content, row(1, CAT, A, 0.5), row(1, CAT, B, 0.9), row(1, CAT, B, 0.8))
    assert evaluation.mask.summary["AP"] == evaluation.box.summary["AP"] == pytest.approx(1)
    assert evaluation.mask.classes[0].objects == 1


def test_nothing_is_printed_or_logged_and_nothing_given_is_changed(capsys, caplog):
    content, rows = data_set(annotation(1, CAT, A)), [row(1, CAT, A, 0.5)]
    before = copy.deepcopy((content, rows))
    truth = truth_of(content)
    first = evaluate_coco(truth, rows, [1])
    compare_instances(truth, rows, [1])
    second = evaluate_coco(truth, rows, [1])
    assert first.mask.summary == second.mask.summary
    assert (content, rows) == before
    assert capsys.readouterr().out == "" and not caplog.records


def reference(annotations, rows: list[dict], kind: str, folder) -> COCOeval:
    """Evaluate files by pycocotools, which takes the area of a result from its mask only where it has no box."""
    results = folder / f"{kind}.json"
    shown = [{key: value for key, value in row.items() if kind == "bbox" or key != "bbox"} for row in rows]
    results.write_text(json.dumps(shown))
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        found = truth.loadRes(str(results))
    return pycocotools_evaluation(truth, found, kind)


def assert_same(annotations, rows: list[dict], folder) -> None:
    truth = truth_in(annotations)
    evaluation = evaluate_coco(truth, rows, truth.image_ids)
    for kind, result in (("segm", evaluation.mask), ("bbox", evaluation.box)):
        expected = reference(annotations, rows, kind, folder)
        ours = [-1 if value is None else value for value in result.summary.values()]
        np.testing.assert_allclose(ours, expected.stats, rtol=0, atol=1e-12)
        precision = expected.eval["precision"][..., 0, 2]
        np.testing.assert_allclose(np.nan_to_num(result.precision, nan=-1), precision, rtol=0, atol=1e-12)


def random_box(rng: np.random.Generator) -> tuple:
    x, y = rng.integers(0, SIDE - 2, 2).tolist()
    return x, y, int(rng.integers(1, SIDE - x)), int(rng.integers(1, SIDE - y))


def random_case(seed: int, most: int) -> tuple[dict, list[dict]]:
    """Draw objects of two classes, some of them crowds, and results close to them, elsewhere and of the other class."""
    rng = np.random.default_rng(seed)
    pictures = int(rng.integers(1, 5))
    entries, rows = [], []
    for _ in range(int(rng.integers(0, most))):
        image_id, category_id, box = int(rng.integers(1, pictures + 1)), int(rng.choice([CAT, DOG])), random_box(rng)
        entry = annotation(image_id, category_id, box, iscrowd=int(rng.random() < 0.2))
        if rng.random() < 0.4:
            entry["segmentation"] = rectangle(*box)
        entries.append(entry)
        if rng.random() < 0.8:
            category_id = category_id if rng.random() < 0.8 else CAT
            near = (*box[:2], *(max(1, side + int(change)) for side, change in zip(box[2:], rng.integers(-4, 2, 2))))
            rows.append(row(image_id, category_id, near, int(rng.integers(1, 6)) / 5))
    rows += [row(int(rng.integers(1, pictures + 1)), DOG, random_box(rng), float(rng.random())) for _ in range(3)]
    return data_set(*entries, pictures=pictures), rows


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_numbers_are_those_of_pycocotools(tmp_path_factory, seed):
    content, rows = random_case(seed, most=16)
    folder = tmp_path_factory.mktemp("case")
    (folder / "truth.json").write_text(json.dumps(content))
    assert_same(folder / "truth.json", rows, folder)


def test_more_than_a_hundred_instances_in_a_picture(tmp_path):
    content, _ = random_case(1, most=16)
    rng = np.random.default_rng(2)
    rows = [row(1, CAT, random_box(rng), float(rng.random())) for _ in range(130)]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    assert_same(tmp_path / "truth.json", rows, tmp_path)


@needs_coco
def test_numbers_on_coco_are_those_of_pycocotools(tmp_path):
    content = json.loads((COCO_TINY / "annotations" / "instances_val2017.json").read_text())
    crowded = [entry["image_id"] for entry in content["annotations"] if entry["iscrowd"]]
    ids = {crowded[0], *(image["id"] for image in content["images"][:2])}
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    shown = {entry["category_id"] for entry in content["annotations"]}
    content["categories"] = [category for category in content["categories"] if category["id"] in shown]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    rows = []
    for entry in truth_of(content).objects:
        mask = np.roll(coco_mask.decode(entry["segmentation"]), int(rng.integers(-5, 6)), axis=1)
        rle = coco_mask.encode(np.asfortranarray(mask))
        found = {key: entry[key] for key in ("image_id", "category_id")}
        found |= {"score": float(rng.random()), "bbox": coco_mask.toBbox(rle).tolist()}
        rows.append({**found, "segmentation": {**rle, "counts": rle["counts"].decode("ascii")}})
    assert len(rows) == len(content["annotations"])
    assert_same(tmp_path / "truth.json", rows, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"segmentation": [[1, 1, 9, 9]]},  # 2 points
        {"segmentation": [["1", "1", "9", "1", "9", "9"]]},
        {"segmentation": [[1, 1, 9, 1, 9, 9, 5]]},
        {"segmentation": {"size": [SIDE, SIDE], "counts": "x"}},  # an endless loop in pycocotools
        {"segmentation": {"size": [SIDE, SIDE], "counts": [1, 2]}},
        *({"image_id": 99}, {"category_id": "3"}, {"iscrowd": "1"}, {"bbox": [0, 0, float("nan"), 9]}),
    ],
    ids=str,
)
def test_evaluation_leaves_out_what_training_leaves_out(damage):
    """All kinds of damage are tested in tests/data/test_coco_damage.py."""
    damaged = {**annotation(1, CAT, B), **damage}
    evaluation = evaluate(data_set(annotation(1, CAT, A), damaged, {"image_id": 1}), row(1, CAT, A, 0.5))
    assert evaluation.left_out == 2
    assert evaluation.mask.summary["AP"] == evaluation.box.summary["AP"] == pytest.approx(1)


def test_a_repeated_annotation_counts_once():
    content = data_set(annotation(1, CAT, A))
    content["annotations"] *= 2
    evaluation = evaluate(content, row(1, CAT, A, 0.5))
    assert (evaluation.left_out, evaluation.mask.summary["AR100"]) == (1, pytest.approx(1))


def test_of_pictures_with_the_same_id_the_first_counts_as_in_training():
    content = data_set(annotation(1, CAT, A))
    content["images"].append({**content["images"][0], "height": 2 * SIDE})
    assert evaluate(content, row(1, CAT, A, 0.5)).mask.summary["AP"] == pytest.approx(1)


@pytest.mark.parametrize("missing", ["iscrowd", "area", "bbox"])
def test_fields_that_follow_from_the_mask_may_be_missing(missing):
    content = data_set(annotation(1, CAT, A), annotation(1, CAT, B))
    expected = evaluate(content, row(1, CAT, A, 0.5))
    content["annotations"][0][missing] = None
    del content["annotations"][1][missing]
    evaluation = evaluate(content, row(1, CAT, A, 0.5))
    assert evaluation.left_out == 0
    assert (evaluation.mask.summary, evaluation.box.summary) == (expected.mask.summary, expected.box.summary)


def test_the_box_of_the_file_counts_although_it_is_not_that_of_the_mask():
    evaluation = evaluate(data_set(annotation(1, CAT, A, bbox=[*B])), {**row(1, CAT, A, 0.5), "bbox": [*B]})
    assert evaluation.mask.summary["AP"] == evaluation.box.summary["AP"] == pytest.approx(1)


@pytest.mark.parametrize("ids", [(0, 1), (5, 5)])
def test_ids_and_polygons_that_break_pycocotools(ids):
    content = data_set(annotation(1, CAT, A), annotation(1, DOG, B))
    for entry, number in zip(content["annotations"], ids):
        entry["id"] = number
        entry["segmentation"].insert(0, [50, 50, 90, 90])
    assert evaluate(content, row(1, CAT, A, 0.5), row(1, DOG, B, 0.5)).mask.summary["AP"] == pytest.approx(1)


def test_masks_and_boxes_can_be_evaluated_alone():
    content, found = random_case(5, most=16)
    truth = truth_of(content)
    both = evaluate_coco(truth, found, truth.image_ids)
    for alone, other, expected in ((mask_precision, "bbox", both.mask), (box_precision, "segmentation", both.box)):
        rows = [{key: value for key, value in row.items() if key != other} for row in found]
        assert alone(truth, rows, truth.image_ids).summary == expected.summary


def compare(content: dict, *rows: dict, **options):
    truth = truth_of(content)
    return compare_instances(truth, rows, truth.image_ids, **options)


def test_correct_results_are_on_the_diagonal_of_the_confusion_matrix():
    content = data_set(annotation(1, CAT, A), annotation(1, DOG, B))
    comparison = compare(content, row(1, CAT, A, 0.9), row(1, DOG, B, 0.5))
    assert comparison.class_names == ("cat", "dog")
    assert comparison.matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert comparison.pictures == (PictureQuality(1, hits=2),)


def test_missed_objects_are_in_the_last_column_and_an_empty_picture_is_correct():
    comparison = compare(data_set(annotation(1, CAT, A), pictures=2))
    assert comparison.matrix.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert [(picture.f1, picture.mistakes) for picture in comparison.pictures] == [(0, 1), (1, 0)]


def test_confusion_matrix_of_mixed_results():
    """One cat is found twice, one is taken for a dog, a dog is missed, and one is found where nothing is."""
    comparison = compare(
        data_set(annotation(1, CAT, A), annotation(1, CAT, B), annotation(1, DOG, C)),
        row(1, CAT, A, 0.9),
        row(1, CAT, A, 0.8),
        row(1, DOG, B, 0.7),
        row(1, DOG, (0, 80, 10, 10), 0.6),
        row(1, DOG, C, 0.4),
    )
    assert comparison.matrix.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]
    (picture,) = comparison.pictures
    assert picture == PictureQuality(1, hits=1, confusions=1, misses=1, false_positives=2)
    # 4 predictions and 3 objects of which 1 is right: precision 1/4, recall 1/3.
    assert picture.f1 == pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))


def test_confusion_matrix_follows_the_thresholds():
    content, half = data_set(annotation(1, CAT, A)), row(1, CAT, (0, 0, 10, 5), 0.3)
    assert compare(content, half).matrix.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert compare(content, half, score=0.3).matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert compare(content, half, score=0.3, iou=0.51).matrix.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_the_highest_score_is_matched_first_and_to_the_largest_overlap():
    truth = truth_of(data_set(annotation(1, CAT, (0, 0, 10, 10)), annotation(1, DOG, (0, 0, 10, 8))))
    both = [row(1, DOG, (0, 0, 10, 8), 0.6), row(1, CAT, (0, 0, 10, 8), 0.9)]
    assert match_instances(both, truth.objects) == [(DOG, CAT), (CAT, DOG)]


def test_confusion_matrix_ignores_results_in_crowds_and_unknown_categories():
    content = data_set(annotation(1, CAT, (30, 30, 60, 60), iscrowd=1))
    assert not compare(content, row(1, CAT, B, 0.9), row(1, 99, A, 0.9)).matrix.any()
    assert compare(content, row(1, DOG, B, 0.9)).matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_the_worst_pictures_come_first():
    content = data_set(*(annotation(i, CAT, box) for i, box in [(1, A), (2, A), (2, B), (3, A)]), pictures=4)
    comparison = compare(content, row(3, CAT, A, 0.9), row(3, CAT, B, 0.9), row(4, CAT, A, 0.1))
    assert [picture.image_id for picture in comparison.pictures] == [2, 1, 3, 4]


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_every_object_and_every_result_is_counted_once(seed):
    content, rows = random_case(seed, most=12)
    truth = truth_of(content)
    comparison = compare_instances(truth, rows, truth.image_ids, score=0.3)
    objects = [entry["category_id"] for entry in truth.objects if not entry["iscrowd"]]
    used = [found["category_id"] for found in rows if found["score"] >= 0.3]
    for place, category_id in enumerate((CAT, DOG)):
        assert comparison.matrix[place].sum() == objects.count(category_id)
        assert comparison.matrix[:, place].sum() <= used.count(category_id)
    if not any(entry["iscrowd"] for entry in truth.objects):
        assert comparison.matrix[:, :2].sum() == len(used)
    matrix = comparison.matrix
    numbers = {"hits": matrix.trace(), "false_positives": matrix[2].sum(), "misses": matrix[:, 2].sum()}
    for kind, number in numbers.items():
        assert sum(getattr(picture, kind) for picture in comparison.pictures) == number
    assert all(0 <= picture.f1 <= 1 for picture in comparison.pictures)


def test_summary_table():
    evaluation = evaluate(data_set(annotation(1, CAT, A)), row(1, CAT, (0, 0, 10, 6), 0.5))
    assert summary_table(evaluation.mask, evaluation.box).splitlines() == [
        "percent     AP   AP50   AP75    APs    APm    APl    AR1   AR10  AR100    ARs    ARm    ARl",
        "mask      30.0  100.0    0.0   30.0    n/a    n/a   30.0   30.0   30.0   30.0    n/a    n/a",
        "box       30.0  100.0    0.0   30.0    n/a    n/a   30.0   30.0   30.0   30.0    n/a    n/a",
    ]
    assert summary_table(evaluation.mask, evaluation.box, classwise=True).splitlines()[4:] == [
        "class  objects  mask AP   AP50   box AP   AP50",
        "cat          1     30.0  100.0     30.0  100.0",
        "dog          0      n/a    n/a      n/a    n/a",
    ]
