"""The score of microscopy benchmarks: matches at ten IoUs, of instances above one score threshold.

curve = match_curve(truth, rows, image_ids)
print(match_table(best_match(curve)))

COCO's AP ranks instances by score and needs no threshold. Who counts cells needs one: S is the mean over pictures, and
over the IoUs 0.5, 0.55 ... 0.95, of TP / (TP + FP + FN) (2018 Data Science Bowl; Caicedo et al. 2019). A picture
without objects and without instances has 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tools.evaluate.coco_metrics import IOU_THRESHOLDS, GroundTruth, check_image_ids, mask_overlaps

SCORES = tuple(i / 100 for i in range(100))  # thresholds of the curve


class MatchScore(NamedTuple):
    """The metrics of all instances with at least the score `threshold`; shares are 0 to 1."""

    threshold: float
    s: float
    by_iou: tuple[float, ...]  # at IOU_THRESHOLDS; `s` is their mean
    precision: float  # at IoU 0.5, over all pictures together, as the next two
    recall: float
    f1: float
    count_error: float  # mean absolute difference of the numbers of instances and objects of a picture
    bias: float  # the number of all instances less that of all objects, as a share of these


class _Picture(NamedTuple):
    """The instances of a picture, sorted by score, highest first; those inside crowds, which do not count, are left
    out at each IoU apart."""

    scores: np.ndarray  # float64 [n]
    hits: np.ndarray  # bool [10, n], matched with an object
    counted: np.ndarray  # bool [10, n], a hit or a false positive
    objects: int  # without crowds


def match_curve(truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int]) -> list[MatchScore]:
    """Return the metrics at each of the thresholds SCORES.

    rows, image_ids and errors: as of `evaluate_coco`. In descending order of score, each instance takes the free object
    of its class whose mask has the largest IoU with its own, at least the given one. An unmatched instance with at
    least this share of its area in a crowd of its class is left out.
    """
    rows_of, objects_of = defaultdict(list), defaultdict(list)
    for row in rows:
        if row["category_id"] in truth.classes.ids:  # as in AP
            rows_of[row["image_id"]].append(row)
    for item in truth.objects:
        objects_of[item["image_id"]].append(item)
    ids = sorted(check_image_ids(truth, image_ids))
    pictures = [_match(rows_of[image_id], objects_of[image_id]) for image_id in ids]
    return [_metrics(pictures, threshold) for threshold in SCORES] if pictures else []


def best_match(curve: Sequence[MatchScore]) -> MatchScore:
    """Return the metrics at the threshold with the highest S; of equal ones in the middle."""
    best = max(point.s for point in curve)
    equal = [point for point in curve if point.s == best]
    return equal[len(equal) // 2]


def match_at(curve: Sequence[MatchScore], threshold: float) -> MatchScore:
    """Return the metrics at the threshold of the curve that is nearest."""
    return min(curve, key=lambda point: abs(point.threshold - threshold))


def match_table(point: MatchScore) -> str:
    """Format the metrics as text."""
    by_iou = "".join(f"{value:>7.3f}" for value in point.by_iou)
    return "\n".join(
        [
            f"score of {point.threshold:.2f} or more",
            "IoU      mean" + "".join(f"{iou:>7.2f}" for iou in IOU_THRESHOLDS),
            f"S      {point.s:>6.3f}{by_iou}",
            f"at IoU 0.5: F1 {point.f1:.3f}, precision {point.precision:.3f}, recall {point.recall:.3f}",
            f"count: {point.count_error:.1f} instances a picture more or less than annotated, {point.bias:+.1%} in all",
        ]
    )


def _match(rows: Sequence[Mapping], objects: Sequence[Mapping]) -> _Picture:
    rows = sorted(rows, key=lambda row: -row["score"])
    singles = [item for item in objects if not item["iscrowd"]]
    crowds = [item for item in objects if item["iscrowd"]]
    to_singles, to_crowds = (_within_class(rows, others) for others in (singles, crowds))
    hits = np.zeros((len(IOU_THRESHOLDS), len(rows)), bool)
    for of_iou, iou in zip(hits, IOU_THRESHOLDS):
        free = np.ones(len(singles), bool)
        for place in np.flatnonzero((to_singles >= iou).any(axis=1)):
            candidates = np.flatnonzero(free & (to_singles[place] >= iou))
            if candidates.size:
                free[candidates[to_singles[place, candidates].argmax()]] = False
                of_iou[place] = True
    in_crowds = to_crowds.max(axis=1, initial=0) >= np.array(IOU_THRESHOLDS)[:, None]
    return _Picture(np.array([row["score"] for row in rows], np.float64), hits, hits | ~in_crowds, len(singles))


def _within_class(rows: Sequence[Mapping], objects: Sequence[Mapping]) -> np.ndarray:
    """Return the IoU of each row with each object of its class, 0 with the others: float64 [rows, objects]."""
    same = [[row["category_id"] == item["category_id"] for item in objects] for row in rows]
    return mask_overlaps(rows, objects) * np.array(same, bool).reshape(len(rows), len(objects))


def _metrics(pictures: Sequence[_Picture], threshold: float) -> MatchScore:
    shown = [picture.scores >= threshold for picture in pictures]
    hits = np.array([(p.hits & kept).sum(axis=1) for p, kept in zip(pictures, shown)])  # [pictures, 10]
    found = np.array([(p.counted & kept).sum(axis=1) for p, kept in zip(pictures, shown)])
    objects = np.array([picture.objects for picture in pictures])[:, None]
    by_iou = np.where(found + objects, hits / np.maximum(found + objects - hits, 1), 1).mean(axis=0)
    true, instances, annotated = hits[:, 0].sum(), found[:, 0].sum(), objects.sum()
    return MatchScore(
        threshold=threshold,
        s=float(by_iou.mean()),
        by_iou=tuple(by_iou.tolist()),
        precision=_share(true, instances, annotated),
        recall=_share(true, annotated, instances),
        f1=_share(2 * true, instances + annotated, 0),
        count_error=float(np.abs(found[:, 0] - objects[:, 0]).mean()),
        bias=float(instances - annotated) / max(annotated, 1),
    )


def _share(part: int, whole: int, others: int) -> float:
    """Return part / whole; of nothing 0, but 1 if there is nothing among the others either."""
    return float(part / whole) if whole else float(not others)
