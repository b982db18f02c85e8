"""The drawing of some validation pictures that a training writes at each evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.coco import CocoData, read_coco
from data.images import read_image, write_image
from tests.support import trainings
from tests.support.tiny import tiny_predictor
from tools.common.distributed import SINGLE_PROCESS, World
from tools.common.plots import SCALE
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predict_records import predict_records
from tools.evaluate.predictions import COUNT, MIN_WIDTH, SIDE, draw_predictions
from tools.evaluate.training_ap import MaskAP, mask_ap
from tools.predict.load import untrained_network


def validation() -> CocoData:
    folder = trainings.data_set()
    return read_coco(folder / "annotations.json", folder / "images", keep_empty=True)


def test_annotated_and_predicted_instances_are_side_by_side():
    """A prediction that is the truth gives twice the same drawing, up to the scores in the labels."""
    data = validation()
    truth = ground_truth(data)
    rows = [{**item, "score": 0.9} for item in truth.objects]
    loader = PictureLoader(data.records, rows, truth, data.classes, ())
    drawn = draw_predictions(data.records, loader, score=0.5)
    assert np.array_equal(drawn, draw_predictions(data.records, loader, score=0.5))
    image, found, annotated = loader.load(data.records[0].image_id, 0.5)
    assert contains(drawn, annotated.draw(image)) and contains(drawn, found.draw(image))
    assert contains(draw_predictions(data.records, loader, score=0.95), image)  # nothing has this score


def contains(drawing: np.ndarray, part: np.ndarray) -> bool:
    height, width = part.shape[:2]
    rows = range(drawing.shape[0] - height + 1)
    columns = np.flatnonzero((drawing == part[0, 0]).all(axis=2).any(axis=0))
    return any(
        np.array_equal(drawing[y : y + height, x : x + width], part)
        for y in rows
        for x in columns
        if np.array_equal(drawing[y, x], part[0, 0])
    )


def test_few_pictures_of_a_limited_size_are_drawn(tmp_path):
    data = validation()
    large = []
    for number, record in enumerate(data.records):
        path = tmp_path / f"{number}.png"
        write_image(path, np.zeros((100, 4000, 3), np.uint8))
        large.append(replace(record, path=path, height=100, width=4000, annotations=()))
    loader = PictureLoader(large, [], replace(ground_truth(data), objects=()), data.classes, ())
    height, width = draw_predictions(large * 50, loader, score=0.5).shape[:2]
    assert width < 2.2 * SIDE * SCALE and height < COUNT * 60 * SCALE
    small = PictureLoader(data.records, [], ground_truth(data), data.classes, ())
    assert draw_predictions(data.records[:1], small, score=0.5).shape[1] < 2.3 * MIN_WIDTH * SCALE


def test_each_evaluation_of_a_training_writes_the_drawing(tmp_path):
    data, predictor = validation(), tiny_predictor()
    network = untrained_network(predictor.config, 0)
    path = tmp_path / "run" / "predictions.png"
    arguments = predictor.config, predictor.classes, data.records
    evaluate = mask_ap(*arguments, ground_truth(data), world=SINGLE_PROCESS, drawing=path)
    for _ in range(2):
        scores = evaluate(network)
        assert isinstance(scores, MaskAP) and 0 <= scores.ap <= scores.ap50 <= 1
        rows = predict_records(predictor, data.records)
        loader = PictureLoader(data.records, rows, ground_truth(data), predictor.classes, ())
        expected = draw_predictions(data.records, loader, score=predictor.config.test_cfg.score)
        np.testing.assert_array_equal(read_image(path), expected)
        path.unlink()


class Second(World):
    """The second of two processes."""

    def gather(self, value: object) -> list:
        return [MaskAP(0.5, 0.6), value]


def test_other_processes_draw_nothing(tmp_path):
    data, predictor = validation(), tiny_predictor()
    evaluate = mask_ap(
        predictor.config, predictor.classes, data.records, None, world=Second(1, 2), drawing=tmp_path / "a.png"
    )
    assert evaluate(untrained_network(predictor.config, 0)) == MaskAP(0.5, 0.6)
    assert not list(tmp_path.iterdir())
