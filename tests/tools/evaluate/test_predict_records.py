"""Prediction for an evaluation: sizes of pictures and several processes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.errors import InputError
from data.coco import read_coco
from tests.support import trainings
from tests.support.tiny import tiny_predictor
from tools.common.distributed import World
from tools.evaluate.predict_records import predict_records


def validation():
    folder = trainings.data_set()
    return read_coco(folder / "annotations.json", folder / "images", keep_empty=True)


class OneOfTwo(World):
    """The world of one of two processes whose results are equal."""

    def gather(self, value: object) -> list:
        return [value, value]


def test_a_picture_of_another_size_is_named():
    record = replace(validation().records[0], width=65)
    with pytest.raises(InputError, match="64 x 64 pixels and 65 x 64 in the annotations") as error:
        predict_records(tiny_predictor(), [record])
    assert str(error.value).startswith(str(record.path))


def test_only_the_first_process_keeps_what_was_found():
    record = validation().records[0]
    first = predict_records(tiny_predictor(), [record, record], world=OneOfTwo(rank=0, size=2))
    assert {row["image_id"] for row in first} == {record.image_id}
    assert predict_records(tiny_predictor(), [record, record], world=OneOfTwo(rank=1, size=2)) == []
