"""`data.stretch`: every program and the Python API give the network the same stretched picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from config.errors import InputError
from config.overrides import differences
from data.coco import read_coco
from data.images import read_image, write_image
from data.stretch import stretch_picture
from data.training_set import TrainingSet
from tests.support import tiny, trainings
from tests.support.exports import SIZE, exported, needs_onnx
from tests.support.programs import run_main
from tools import infer_onnx, preprocess_inputs_to_bin, quantize
from tools.common.checkpoint import Checkpoint, save_checkpoint
from tools.common.kinds import kind_of
from tools.deploy.exported import METADATA, exported_predictor, open_exported
from tools.evaluate.coco_metrics import ground_truth
from tools.evaluate.picture_loader import PictureLoader
from tools.evaluate.predict_records import predict_records
from tools.predict.jobs import plan_jobs
from tools.predict.load import untrained_network
from tools.predict.picture_files import drawings
from tools.predict.pipeline import predict_files

OVERRIDE = "data.stretch=1,99.8,0.7"
DEEP = 100 + 11 * tiny.scene(1).astype(np.uint16)  # of a camera of 12 bits
SHALLOW = stretch_picture(DEEP, (1.0, 99.8, 0.7))  # what the network shall see


@pytest.fixture(scope="module")
def predictor():
    return tiny.predictor(tiny.CONFIG, untrained=0, overrides=(*tiny.OVERRIDES, OVERRIDE))


@pytest.fixture
def deep(tmp_path) -> Path:
    path = tmp_path / "deep.tif"
    assert cv2.imwrite(str(path), DEEP[..., ::-1])
    return path


def test_files_and_arrays_of_16_bits_give_what_the_stretched_picture_gives(predictor, deep):
    expected = tiny.tiny_predictor()(SHALLOW).to_coco()
    grey = Image.fromarray(DEEP[..., 0])
    assert len(expected) > 0 and predictor(SHALLOW).to_coco() == expected
    assert [found.to_coco() for found in predictor([deep, str(deep), DEEP, SHALLOW])] == [expected] * 4
    assert predictor(grey).to_coco() == predictor(DEEP[..., 0]).to_coco() == predictor(DEEP[..., [0, 0, 0]]).to_coco()
    for other in (DEEP, DEEP.astype(np.float32)):
        with pytest.raises(InputError, match="give uint8"):
            tiny.tiny_predictor()(other)
    with pytest.raises(InputError, match=r"a picture of dtype uint16 and shape \(80, 120, 4\); give uint8"):
        predictor(np.zeros((80, 120, 4), np.uint16))


def test_drawings_show_the_stretched_picture(predictor, deep, tmp_path):
    found = predictor(deep)
    expected = found.draw(SHALLOW)
    for part in (found, found[:2]):
        np.testing.assert_array_equal(part.draw(deep), part.draw(SHALLOW))
    np.testing.assert_array_equal(found.draw(DEEP), expected)
    files = [drawings(tmp_path / "drawn")]
    report = predict_files(predictor, plan_jobs([deep], files), files=files, results=tmp_path / "a.json", threads=0)
    np.testing.assert_array_equal(read_image(tmp_path / "drawn" / "deep.tif"), expected)
    assert report.pictures == 1
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["segmentation"] for row in rows] == found.to_rle()


def test_training_and_evaluation_read_the_stretched_picture(predictor, deep):
    data = read_coco(trainings.data_set() / "annotations.json", trainings.data_set() / "images", keep_empty=True)
    records = [replace(data.records[0], path=deep, height=80, width=120, annotations=())]
    config = predictor.config.replace(augment=replace(predictor.config.augment, flip=0.0, short_sides=()))
    sample = TrainingSet(records, config, seed=0, make_targets=kind_of(config).targets).sample(0, 0, 0)
    plain = replace(records[0], path=deep.with_name("shallow.png"))
    write_image(plain.path, SHALLOW)
    unstretched = config.replace(data=replace(config.data, stretch=()))
    expected = TrainingSet([plain], unstretched, seed=0, make_targets=kind_of(config).targets).sample(0, 0, 0)
    np.testing.assert_array_equal(sample.image, expected.image)
    assert predict_records(predictor, records) == predict_records(tiny.tiny_predictor(), [plain])
    truth = replace(ground_truth(data), objects=())
    image, _, _ = PictureLoader(records, [], truth, data.classes, config.data.stretch).load(records[0].image_id, 0.5)
    np.testing.assert_array_equal(image, SHALLOW)


def test_a_checkpoint_carries_the_setting(predictor, deep, tmp_path):
    network = untrained_network(predictor.config, 0)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    saved = Checkpoint(weights, predictor.classes, predictor.config.name, differences(predictor.config))
    save_checkpoint(tmp_path / "deep.pdparams", saved)
    loaded = tiny.predictor(tiny.CONFIG, tmp_path / "deep.pdparams", score=0.0)
    assert loaded.config.data == predictor.config.data
    assert loaded(deep).to_coco() == predictor(deep).to_coco()


@needs_onnx
def test_an_exported_network_stretches_as_the_config_that_it_was_exported_with(deep, tmp_path):
    model = exported("-o", OVERRIDE, f"--input-size={SIZE[0]}x{SIZE[1]}")
    inside = exported_predictor(model, score=0.0)
    assert inside.config.data.stretch == (1.0, 99.8, 0.7)
    metadata = json.loads(open_exported(model).get_modelmeta().custom_metadata_map[METADATA])
    assert metadata["stretch"] == [1.0, 99.8, 0.7]  # for programs that do not know our configs
    found = inside(deep)
    assert found.to_coco() == inside(SHALLOW).to_coco()
    status, _, err = run_main(infer_onnx.main, model, deep, "--score=0", "--output", tmp_path / "drawn")
    assert status == 0, err
    drawn = read_image(tmp_path / "drawn" / "deep.tif")
    np.testing.assert_array_equal(drawn, inside(SHALLOW).draw(SHALLOW))
    write_image(tmp_path / "shallow.png", SHALLOW)
    sized = f"--input-size={SIZE[0]}x{SIZE[1]}"
    inputs = []
    for network, picture in ((model, deep), (exported(sized), tmp_path / "shallow.png")):
        output = tmp_path / picture.stem
        status, _, err = run_main(preprocess_inputs_to_bin.main, network, picture, "--output", output)
        assert status == 0, err
        (path,) = output.glob("*.bin")
        inputs.append(path.read_bytes())
    assert inputs[0] == inputs[1]


@needs_onnx
def test_quantization_calibrates_on_floating_point_pictures(tmp_path):
    model = exported("-o", OVERRIDE, f"--input-size={SIZE[0]}x{SIZE[1]}")
    assert cv2.imwrite(str(tmp_path / "a.tif"), DEEP.astype(np.float64))
    status, _, err = run_main(
        quantize.main, "--onnx", model, "--images", tmp_path / "a.tif", "--output", tmp_path / "int8.onnx"
    )
    assert status == 0, err
