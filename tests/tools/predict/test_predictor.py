"""The predictor: accepted pictures, batches, threads, weights and errors."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config
from config.errors import InputError
from data.images import ImageError, write_image
from tests.support import tiny
from tools.predict.instances import Instances
from tools.predict.load import load_predictor
from tools.predict.predictor import batched

SCENES = [tiny.scene(seed, *size) for seed, size in enumerate([(80, 120), (120, 80), (64, 64), (70, 200), (90, 91)])]


def rows(instances: Instances) -> list[dict]:
    return instances.to_coco(1, polygons=True)


def test_an_array_gives_instances_at_its_size():
    found = tiny.tiny_predictor()(SCENES[0])
    assert isinstance(found, Instances)
    assert found.size == (80, 120)
    assert found.masks.shape == (len(found), 80, 120)
    assert 0 < len(found) <= 8
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert found.draw(SCENES[0]).shape == SCENES[0].shape
    assert len(found.to_polygons()) == len(found.to_coco(image_id=1)) == len(found)


def test_a_list_gives_a_list_and_anything_else_a_generator():
    predictor = tiny.tiny_predictor()
    alone = [rows(predictor(image)) for image in SCENES]
    together = predictor(SCENES)
    assert isinstance(together, list)
    assert [rows(found) for found in together] == alone
    assert isinstance(predictor(tuple(SCENES[:1])), list)
    assert predictor([]) == []
    streamed = predictor(image for image in SCENES)
    assert not isinstance(streamed, list)
    assert [rows(found) for found in streamed] == alone


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_a_stream_takes_pictures_only_a_little_ahead(threads):
    taken = []

    def pictures():
        for number in itertools.count():
            taken.append(number)
            yield SCENES[2]

    stream = tiny.tiny_predictor().stream(pictures(), threads=threads)
    assert not taken, "nothing happens before the first one is asked for"
    before = tiny.pool_threads()
    for _ in range(3):
        next(stream)
    assert len(taken) <= 3 + 3 * threads + 1
    stream.close()
    assert tiny.pool_threads() <= before


def test_threads_and_batches_change_nothing():
    together = tiny.predictor(tiny.CONFIG, untrained=0, overrides=[*tiny.OVERRIDES, "test_cfg.batch_size=2"])
    same_size = [tiny.scene(seed) for seed in range(5)]
    alone = [rows(found) for found in tiny.tiny_predictor().stream(same_size, threads=0)]
    for threads in (0, 1, 4):
        found = list(together.stream(same_size, threads=threads))
        assert [[row["category_id"] for row in rows(one)] for one in found] == [
            [row["category_id"] for row in one] for one in alone
        ]
        assert [rows(one) for one in found] == [rows(one) for one in together.stream(same_size, threads=0)]


@pytest.mark.parametrize("kind", tiny.GRID_KINDS)
def test_every_kind_of_head_finds_something_alone_and_in_a_batch(kind):
    overrides = [*tiny.OVERRIDES, f"head.kind={kind}"]
    scenes = [tiny.scene(seed) for seed in range(3)]
    alone = tiny.predictor(tiny.CONFIG, untrained=0, overrides=overrides)(scenes)
    assert all(len(found) and found.masks.any() for found in alone)
    batched = tiny.predictor(tiny.CONFIG, untrained=0, overrides=[*overrides, "test_cfg.batch_size=2"])
    for found, expected in zip(batched(scenes), alone):
        assert found.classes.tolist() == expected.classes.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_a_path_gives_what_the_array_gives(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, SCENES[0])
    predictor = tiny.tiny_predictor()
    expected = rows(predictor(SCENES[0]))
    assert rows(predictor(path)) == rows(predictor(str(path))) == expected
    mixed = predictor([SCENES[1], path])
    assert rows(mixed[1]) == expected


def test_a_view_of_bgr_as_rgb_and_other_layouts_are_as_good_as_a_copy():
    predictor = tiny.tiny_predictor()
    bgr = np.ascontiguousarray(SCENES[0][:, :, ::-1])
    expected = rows(predictor(SCENES[0]))
    assert rows(predictor(bgr[:, :, ::-1])) == expected
    assert rows(predictor(np.asfortranarray(SCENES[0]))) == expected
    read_only = SCENES[0].copy()
    read_only.flags.writeable = False
    assert rows(predictor(read_only)) == expected


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_what_is_no_picture_is_told_with_its_type_and_shape(image):
    with pytest.raises(InputError) as caught:
        tiny.tiny_predictor()(image)
    assert str(image.shape) in str(caught.value)
    assert str(image.dtype) in str(caught.value)
    assert "uint8 [H, W, 3]" in str(caught.value)


def test_an_unreadable_file_ends_the_stream_with_its_name(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    stream = tiny.tiny_predictor()(picture for picture in [SCENES[0], tmp_path / "a.jpg", SCENES[1]])
    before = tiny.pool_threads()
    with pytest.raises(ImageError, match=r"a\.jpg"):
        list(stream)
    assert tiny.pool_threads() <= before


@settings(max_examples=25)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_every_size_of_picture_works(height, width):
    found = tiny.tiny_predictor()(np.full((height, width, 3), 128, np.uint8))
    assert found.size == (height, width)
    assert found.draw(np.zeros((height, width, 3), np.uint8)).shape == (height, width, 3)


@pytest.mark.parametrize("override", ["test_cfg.score=1", "nms.score_thr=0.99", "nms.update_thr=0.99"])
def test_nothing_found_is_an_ordinary_answer(override):
    predictor = tiny.predictor(tiny.CONFIG, untrained=0, overrides=[*tiny.OVERRIDES, override])
    found = predictor(SCENES[0])
    assert len(found) == 0
    assert found.masks.shape == (0, 80, 120)
    assert found.boxes.shape == (0, 4)
    assert found.to_coco(1) == found.to_polygons() == []
    np.testing.assert_array_equal(found.draw(SCENES[0]), SCENES[0])


def test_the_score_is_a_lower_bound_that_takes_from_the_end():
    everything = tiny.tiny_predictor()(SCENES[0])
    bound = float(everything.scores[2])
    some = tiny.predictor(tiny.CONFIG, untrained=0, overrides=tiny.OVERRIDES, score=bound)(SCENES[0])
    assert rows(some) == rows(everything)[: int((everything.scores >= bound).sum())]


def test_predictors_of_different_configs_do_not_disturb_each_other():
    first = tiny.tiny_predictor()
    before = rows(first(SCENES[0]))
    other = tiny.predictor(1, untrained=1, overrides=[*tiny.OVERRIDES, "data.short_side=32", "nms.score_thr=0.011"])
    between = rows(other(SCENES[0]))
    assert rows(first(SCENES[0])) == before
    assert rows(other(SCENES[0])) == between
    assert before != between
    alternating = zip(first(iter(SCENES)), other(iter(SCENES)))
    assert [(rows(one), rows(two)) for one, two in alternating] == [
        (rows(first(image)), rows(other(image))) for image in SCENES
    ]


def test_a_seed_decides_the_random_weights():
    again = tiny.predictor(tiny.CONFIG, untrained=0, overrides=tiny.OVERRIDES)
    assert rows(again(SCENES[0])) == rows(tiny.tiny_predictor()(SCENES[0]))
    another = tiny.predictor(tiny.CONFIG, untrained=1, overrides=tiny.OVERRIDES)
    assert rows(another(SCENES[0])) != rows(tiny.tiny_predictor()(SCENES[0]))


def test_prediction_works_from_any_thread_and_keeps_no_gradients():
    predictor = tiny.tiny_predictor()
    outcome = {}

    def work():
        outcome["rows"] = rows(predictor(SCENES[0]))
        outcome["raw"] = next(predictor.run_batches([predictor.prepare(SCENES[0])], lambda item: item, threads=0))[1]

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert outcome["rows"] == rows(predictor(SCENES[0]))
    assert all(isinstance(part, np.ndarray) for part in outcome["raw"])
    assert paddle.is_grad_enabled()


def test_two_threads_may_use_two_predictors_at_once():
    predictors = [tiny.predictor(tiny.CONFIG, untrained=seed, overrides=tiny.OVERRIDES) for seed in (0, 1)]
    expected = [[rows(found) for found in predictor(SCENES)] for predictor in predictors]
    outcome = {}

    def work(number):
        outcome[number] = [[rows(found) for found in predictors[number](SCENES)] for _ in range(3)]

    threads = [threading.Thread(target=work, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcome == {number: [expected[number]] * 3 for number in (0, 1)}


def test_a_missing_checkpoint_names_its_converters_and_publishers(monkeypatch, tmp_path):
    monkeypatch.setattr("config.base.PROJECT", tmp_path)
    with pytest.raises(InputError) as caught:
        load_predictor(2)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "weights" / "solov2_light_r50_vd_fpn_dcn_512_3x.pdparams"))
    assert "python convert/ppdet2paddle.py --download --config=2" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"config": 99}, "99"),
        ({"config": "solov2_r50_fpn_8gpu_3"}, "did you mean solov2_r50_fpn_8gpu_3x"),
        ({"overrides": ["nms.scorethr=0.1"]}, "did you mean nms.score_thr"),
        ({"overrides": ["nms.score_thr=high"]}, "expected a number"),
        ({"device": "tpu"}, "device tpu"),
        ({"weights": "nowhere.pdparams", "untrained": None}, "nowhere.pdparams"),
    ],
)
def test_mistakes_are_user_errors_that_name_them(options, named):
    with pytest.raises(InputError, match=named):
        tiny.predictor(**{"config": 3, "untrained": 0, **options})


@pytest.mark.parametrize(
    "override",
    [
        "test_cfg.batch_size=0",
        "test_cfg.batch_size=-1",
        "data.size_divisor=0",
        "data.size_divisor=1",
        "data.short_side=0",
        "data.mean=1,2",
        "data.std=0,0,0",
        "data.resize_by=foo",
        "nms.kernel=foo",
        "nms.nms_pre=0",
        "head.num_grids=5,4",
        "num_classes=3",
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_anything_runs(override):
    """Not a traceback from within the network, and not, which is worse, a result of something else."""
    with pytest.raises(InputError, match=override.partition("=")[0].rpartition(".")[2]):
        tiny.predictor(tiny.CONFIG, untrained=0, overrides=[*tiny.OVERRIDES, override])


def test_a_config_object_is_as_good_as_its_number():
    config = load_config(tiny.CONFIG, tiny.OVERRIDES)
    assert rows(tiny.predictor(config, untrained=0)(SCENES[0])) == rows(tiny.tiny_predictor()(SCENES[0]))


@settings(max_examples=50)
@given(count=st.integers(0, 30), size=st.integers(1, 9))
def test_batches_are_full_but_for_the_last(count, size):
    batches = list(batched(iter(range(count)), size))
    assert [item for batch in batches for item in batch] == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches)
