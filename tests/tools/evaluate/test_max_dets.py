"""AP of pictures with more instances than COCO counts."""

from __future__ import annotations

import pytest

from tests.support.coco_results import CAT, annotation, data_set, row, truth_of
from tools.evaluate.coco_metrics import evaluate_coco, summary_table


def test_more_instances_than_coco_counts():
    """150 objects in a picture, all found: COCO's AP sees 100 of them."""
    places = [(8 * (i % 12), 7 * (i // 12), 6, 5) for i in range(150)]
    content = data_set(*(annotation(1, CAT, place) for place in places))
    truth, rows = truth_of(content), [row(1, CAT, place, 0.9 - i / 1000) for i, place in enumerate(places)]
    limited, whole = (evaluate_coco(truth, rows, truth.image_ids, count) for count in (100, 200))
    for result in (limited.mask, limited.box):
        assert result.summary["AR100"] == pytest.approx(100 / 150)
    for result in (whole.mask, whole.box):
        assert result.summary["AP"] == result.summary["AR200"] == pytest.approx(1) and "AR100" not in result.summary
    assert summary_table(limited.mask, limited.box).count("\n") == 2
    assert summary_table(whole.mask, whole.box).splitlines()[-1] == (
        "At most 200 instances a picture and class count here; COCO's own AP counts 100."
    )
