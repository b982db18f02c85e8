"""The mask AP that is computed during a training."""

from __future__ import annotations

import pytest

from config.errors import InputError
from data.coco import read_coco
from tests.support import trainings
from tests.support.tiny import tiny_predictor
from tools.common.distributed import World
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.predict_records import predict_records
from tools.evaluate.training_ap import MaskAP, mask_ap
from tools.predict.load import untrained_network


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


class Nothing:
    summary = {"AP": None, "AP50": 0.5}
