"""The mask AP that is computed during a training."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from config import load_config
from config.errors import InputError
from data.class_lists import read_class_list
from data.coco import read_coco
from tests.support import tiny, trainings
from tests.support.tiny import tiny_predictor
from tools.common.distributed import World
from tools.engine.select import unusable_reason
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.predict_records import predict_records
from tools.evaluate.training_ap import MaskAP, mask_ap
from tools.predict.load import COMPILED_FROM, network_predictor, untrained_network


def test_training_asks_for_masks_alone(monkeypatch):
    folder = trainings.data_set()
    found = read_coco(folder / "annotations.json", folder / "images", keep_empty=True)
    kinds = []
    predictor = tiny_predictor()
    compute = "tools.evaluate.coco_metrics._average_precision"
    monkeypatch.setattr(compute, lambda kind, *_: kinds.append(kind) or Nothing)
    ap = mask_ap(predictor.config, predictor.classes, found.records[:1], ground_truth(found), world=World())
    assert ap(untrained_network(predictor.config, 0)) == MaskAP(0.0, 0.5)
    assert kinds == ["segm"]


def test_unreadable_pictures_do_not_end_a_training(tmp_path, capsys):
    folder = trainings.damaged_data_set(tmp_path / "damaged", "000002.jpg")
    found = read_coco(folder / "annotations.json", folder / "images", keep_empty=True)
    predictor = tiny_predictor()
    ap = mask_ap(predictor.config, predictor.classes, found.records, ground_truth(found), world=World())
    network = untrained_network(predictor.config, 0)
    assert ap(network) == ap(network) >= (0, 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"skipped {folder / 'images' / '000002.jpg'}: damaged JPEG")
    assert line.endswith("; it is left out of the evaluation")
    with pytest.raises(InputError, match="000002.jpg: damaged JPEG"):
        predict_records(predictor, found.records)
    nothing = mask_ap(predictor.config, predictor.classes, found.records[1:2], ground_truth(found), world=World())
    with pytest.raises(InputError, match="no validation picture can be read"):
        nothing(network)


@pytest.mark.skipif(bool(unusable_reason("onnx")), reason="the engine onnx is not installed")
@pytest.mark.parametrize("number", [tiny.CONFIG, tiny.CENTERMASK2])
def test_many_pictures_are_predicted_by_a_compiled_copy(number):
    """It finds the same, sees the weights of its time, and leaves the network and the random numbers as they are."""
    folder = trainings.data_set()
    found = read_coco(folder / "annotations.json", folder / "images", keep_empty=True)
    config = load_config(number, tiny.OVERRIDES if number == tiny.CONFIG else tiny.CENTERMASK2_OVERRIDES)
    classes, network = read_class_list(config.classes_file), untrained_network(config, 0)
    before = [parameter.numpy() for parameter in network.parameters()]
    paddle.seed(1)
    expected = paddle.rand([3]).numpy()
    paddle.seed(1)

    def rows_of(pictures: int, engine: str) -> list[dict]:
        ours = network_predictor(network, config, classes, score=0.0, pictures=pictures)
        assert ours.engine_name == engine
        return predict_records(ours, found.records)

    for _ in range(2):
        exact, ours = rows_of(1, "dynamic"), rows_of(COMPILED_FROM, "onnx")
        assert len(exact) == len(ours) > 0
        for first, second in zip(exact, ours):
            assert first["score"] == pytest.approx(second["score"], abs=1e-4)
        for parameter in network.parameters():
            parameter.set_value(parameter * 1.01)
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected)
    for parameter, old in zip(network.parameters(), before):
        np.testing.assert_allclose(parameter.numpy(), old * 1.01**2, rtol=1e-5)


class Nothing:
    summary = {"AP": None, "AP50": 0.5}
