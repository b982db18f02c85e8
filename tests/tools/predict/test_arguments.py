"""Wrong arguments of the Python API: each gets one line that states what was found and what is expected."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from config.errors import InputError
from tests.support import tiny
from tools.predict.instances import Instances

SCENE = tiny.scene(0)
MASKS = np.eye(2, dtype=bool)[:, None]
LONGEST_MESSAGE = 400
DTYPES = st.sampled_from([np.uint8, np.uint16, np.int8, np.float32, np.float64, bool, object, "U3"])
ARRAYS = DTYPES.flatmap(lambda dtype: array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4).map(
    lambda shape: np.zeros(shape, dtype)
))  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("a.\n\0", max_size=9) | st.binary()
ODD = st.recursive(VALUES | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner))


def message_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert len(message) < LONGEST_MESSAGE and "\n" not in message
    return message


def build(
    masks: Any = MASKS, scores: Any = (0.5, 0.4), classes: Any = (0, 1), names: Any = ("a", "b"), ids: Any = (1, 2)
) -> Instances:
    return Instances.from_masks(masks, scores, classes, names, ids)


@pytest.mark.parametrize("threads", [-1, "4", 1.5, None])
def test_a_number_of_threads_that_makes_no_sense(threads):
    assert f"threads={threads!r}: expected an integer >= 0" in message_of(
        tiny.tiny_predictor().stream, [SCENE], threads=threads
    )


@pytest.mark.parametrize("picture", ["a.jpg", Path("a.jpg"), SCENE, Image.new("RGB", (9, 9))], ids=type)
def test_a_stream_of_a_single_picture(picture):
    assert "give a list" in message_of(tiny.tiny_predictor().stream, picture)


@pytest.mark.parametrize(
    "value",
    [b"\xff\xd8\xff" * 99, bytearray(b"ab"), io.BytesIO(b"ab"), paddle.to_tensor(SCENE), {"a": SCENE}, None, 5],
    ids=type,
)
def test_what_is_neither_a_picture_nor_pictures_is_refused_at_once(value):
    predictor = tiny.tiny_predictor()
    for call in (predictor, predictor.stream, predictor.prepare):
        assert "is not a picture; give uint8 [H, W, 3] RGB, a path or a PIL picture" in message_of(call, value)


def test_a_file_that_is_open_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\n" * 9)
    with (tmp_path / "a.jpg").open("rb") as stream:
        assert "PIL.Image.open" in message_of(tiny.tiny_predictor(), stream)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": 5, "untrained": None}, "weights=5"),
        ({"weights": "", "untrained": None}, "weights=''"),
        ({"weights": "a\0b", "untrained": None}, "NUL character"),
        ({"overrides": None}, "overrides=None: expected a list"),
        ({"overrides": [1]}, "expected a list"),
        ({"overrides": {"nms.max_per_img": 1}}, "overrides={'nms.max_per_img': 1}: expected a list"),
        ({"untrained": -1}, "untrained=-1: expected a seed"),
        ({"untrained": "a"}, "expected a seed"),
        ({"untrained": 2**64}, "expected a seed"),
        ({"device": 0}, "device=0: expected 'auto'"),
        ({"section": "train_cfg"}, "expected 'test_cfg' or 'eval_cfg'"),
        ({"score": "0.3"}, "expected a number from 0 to 1"),
        ({"score": True}, "expected a number from 0 to 1"),
        ({"streams": 0}, "streams=0: expected an integer above 0"),
        ({"streams": "2"}, "streams='2': expected an integer above 0"),
    ],
    ids=str,
)
def test_arguments_of_load_predictor(options, words):
    assert words in message_of(tiny.predictor, **{"config": tiny.CONFIG, "untrained": 0, **options})


def test_another_class_list_than_that_of_the_checkpoint_is_refused(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("cat\ndog\n")
    message = message_of(tiny.predictor, 20, overrides=[f"classes_path={own}"])
    assert message.endswith("there were 8 classes and there are 2; leave classes_path out")
    assert len(tiny.predictor(20, overrides=["classes_path=data/shapes_classes.txt"]).classes) == 8


def test_numbers_of_numpy_are_numbers_and_overrides_may_be_a_generator():
    predictor = tiny.predictor(
        np.int64(tiny.CONFIG), untrained=np.int64(0), overrides=iter(tiny.OVERRIDES), score=np.float32(0.5)
    )
    assert predictor.score == 0.5 and predictor.config.data.short_side == 64
    assert len(list(predictor.stream([SCENE], threads=np.int64(1)))) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": MASKS.tolist()}, r"masks (2, 1, 2): expected an array [n, H, W]"),
        ({"masks": MASKS[0]}, r"masks (1, 2): expected an array"),
        ({"masks": MASKS.astype(float)}, "masks of dtype float64"),
        ({"classes": (0, 2)}, "classes [0, 2] of 2 class names"),
        ({"classes": (0, -1)}, "classes [0, -1] of 2 class names"),
        ({"classes": (0.7, 1)}, "classes (0.7, 1): expected numbers of int64"),
        ({"ids": (1.5, 2)}, "category_ids (1.5, 2): expected numbers of int64"),
        ({"scores": ("a", "b")}, "expected numbers of float32"),
        ({"scores": (0.5,)}, "one row per mask"),
    ],
    ids=str,
)
def test_arguments_of_from_masks(changes, words):
    assert words in message_of(build, **changes)


def test_results_with_numbers_of_numpy_are_json():
    rows = build(ids=np.array([1, 18])).to_coco(np.int64(5))
    assert [(row["image_id"], row["category_id"]) for row in json.loads(json.dumps(rows))] == [(5, 1), (5, 18)]
    assert build().to_coco("a")[0]["image_id"] == "a"
    for image_id in (None, 1.5, np.float32(1)):
        assert "expected an integer" in message_of(build().to_coco, image_id)


@pytest.mark.parametrize("image", [SCENE[:5], SCENE.astype(float), SCENE[:, :, 0]], ids=lambda image: str(image.shape))
def test_a_drawing_on_another_picture(image):
    found = tiny.tiny_predictor()(SCENE)
    assert str(image.shape) in (message := message_of(found.draw, image)) and "give that picture" in message


@pytest.mark.parametrize("index", [None, [[0, 1]], "a", 0.5])
def test_an_index_that_selects_nothing_sensible(index):
    with pytest.raises(IndexError):
        build()[index]


@settings(max_examples=150)
@given(ODD)
def test_odd_pictures_are_refused_in_one_line(value):
    predictor = tiny.tiny_predictor()
    try:
        found = predictor(value)
        found = found if isinstance(found, (Instances, list)) else list(found)
    except InputError as error:
        assert len(str(error)) < LONGEST_MESSAGE
    else:
        assert isinstance(found, Instances) or all(isinstance(one, Instances) for one in found)


@settings(max_examples=150)
@given(
    masks=arrays(st.sampled_from([bool, np.uint8, np.float32]), array_shapes(min_dims=1, max_dims=4, max_side=3)),
    scores=st.lists(st.floats(0, 1), max_size=3) | ODD,
    classes=st.lists(st.integers(-1, 2), max_size=3) | ODD,
)
def test_odd_instances_are_refused_or_become_json(masks, scores, classes):
    try:
        found = build(masks, scores, classes)
    except InputError as error:
        assert len(str(error)) < LONGEST_MESSAGE
    else:
        assert len(json.loads(json.dumps(found.to_coco(polygons=True)))) == len(found) == len(found.names)


def test_a_drawing_without_a_path():
    assert "path=None: expected the path of a drawing" in message_of(build().save, None, SCENE)
