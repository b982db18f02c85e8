"""The plots of the report: precision over recall, the confusion matrix, and a histogram of the pictures' F1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.common.plots import bars, heat_map, line_plot
from tools.evaluate.coco_metrics import IOU_THRESHOLDS, AveragePrecision, Comparison, PictureQuality, percent
from tools.evaluate.match_score import MatchScore

MAX_CLASSES = 80  # in the confusion matrix; a larger one is hard to read
F1_BINS = 10


def precision_recall_plot(result: AveragePrecision, *, title: str) -> np.ndarray:
    """Plot precision over recall, averaged over the classes with objects, at five IoU thresholds: uint8 [H, W, 3]."""
    has_objects = ~np.isnan(result.precision[0, 0])  # [K]
    recall = np.linspace(0, 1, result.precision.shape[1])
    curves = {}
    for iou, precision in list(zip(IOU_THRESHOLDS, result.precision))[::2] if has_objects.any() else ():
        mean = precision[:, has_objects].mean(axis=1)
        curves[f"IoU {iou:g}, AP {percent(mean.mean())}"] = (recall, mean)
    return line_plot(
        curves, title=title, x_label="recall", y_label="precision", x_range=(0, 1), y_range=(0, 1), size=(380, 520)
    )


def confusion_plot(comparison: Comparison) -> np.ndarray:
    """Draw the confusion matrix, shaded by each cell's share of its row: uint8 [H, W, 3].

    If there are more than MAX_CLASSES classes, only those with the most mistakes are drawn, in their original order.
    """
    matrix, names = comparison.matrix, np.array(comparison.class_names, object)
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    shown = np.sort(np.argsort(-mistakes[:-1], kind="stable")[:MAX_CLASSES])
    title = f"Confusion matrix, score {comparison.score:g} or more"
    if len(shown) < len(names):
        title += f", the {len(shown)} of {len(names)} classes with the most mistakes"
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    cells = np.ix_([*shown, len(names)], [*shown, len(names)])
    return heat_map(
        matrix[cells],
        [*names[shown], "nothing there"],
        [*names[shown], "missed"],
        shades=shares[cells],
        title=title,
        x_label="predicted class",
        y_label="true class",
    )


def match_plot(curve: Sequence[MatchScore]) -> np.ndarray:
    """Plot the match score, and F1, precision and recall at IoU 0.5, over the score threshold: uint8 [H, W, 3]."""
    scores = [point.threshold for point in curve]
    fields = {"S": "s", "F1": "f1", "precision": "precision", "recall": "recall"}
    curves = {name: (scores, [getattr(point, key) for point in curve]) for name, key in fields.items()}
    return line_plot(
        curves, title="Match score", x_label="score threshold", x_range=(0, 1), y_range=(0, 1), size=(380, 520)
    )


def quality_plot(pictures: Sequence[PictureQuality]) -> np.ndarray:
    """Draw a histogram of the pictures' F1: uint8 [H, W, 3]."""
    counts, edges = np.histogram([picture.f1 for picture in pictures], F1_BINS, (0, 1))
    names = [f"{low:.1f} to {high:.1f}" for low, high in zip(edges, edges[1:])]
    return bars(names, counts.tolist(), title="F1 of the pictures", x_label="pictures")
