"""Checkpoint files: saving and loading, damaged files, and weights that do not fit the network."""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from config import load_config
from config.base import PROJECT
from config.errors import InputError
from config.overrides import differences
from data.class_lists import ClassList
from tests.support import tiny
from tools.common.checkpoint import (
    Checkpoint,
    check_finite,
    compare_shapes,
    load_checkpoint,
    load_fitting_weights,
    load_weights,
    save_checkpoint,
    store_score,
)
from tools.predict.load import untrained_network

SMALL = Checkpoint(
    weights={"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)},
    classes=ClassList(names=("cat", "dog"), ids=(17, 18)),
    config_name="solov2_light_448_r18_fpn_8gpu_3x",
    overrides=("data.resize_by=factor",),
    source={"file": "a.pth", "sha256": "00"},
)
FORMAT = {
    "format_version": 1,
    "config_name": "x",
    "class_names": ["cat"],
    "category_ids": [1],
    "overrides": [],
    "source": {},
    "weights": {},
}


def write(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a checkpoint of the tiny network for three classes."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pdparams"
    folder = path.parent
    (folder / "classes.txt").write_text("7\tcap\n12\tring\n31\tbelt\n")
    overrides = [*tiny.OVERRIDES, f"classes_path={folder / 'classes.txt'}"]
    source = tiny.predictor(tiny.CONFIG, untrained=5, overrides=overrides)
    network = untrained_network(source.config, 5)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    save_checkpoint(path, Checkpoint(weights, source.classes, source.config.name, differences(source.config)))
    return path


text = st.text(max_size=20)


@settings(max_examples=40)
@given(
    weights=st.dictionaries(
        text, arrays(st.sampled_from(["f4", "f2", "f8", "i8", "u1"]), array_shapes(min_dims=0, min_side=0)), max_size=4
    ),
    classes=st.lists(st.tuples(text, st.integers(0, 2**40)), max_size=5, unique_by=(itemgetter(0), itemgetter(1))).map(
        dict
    ),
    config_name=text,
    overrides=st.lists(text.map("data.{}".format), max_size=3),
    source=st.dictionaries(text, text, max_size=3),
)
def test_what_is_saved_is_loaded(tmp_path_factory, weights, classes, config_name, overrides, source):
    path = tmp_path_factory.mktemp("round") / "x.pdparams"
    names = ClassList(tuple(classes), tuple(classes.values()))
    save_checkpoint(path, Checkpoint(weights, names, config_name, tuple(overrides), source))
    loaded = load_checkpoint(path)
    assert (loaded.classes, loaded.config_name, loaded.overrides) == (names, config_name, tuple(overrides))
    assert loaded.source == source
    assert list(loaded.weights) == list(weights)
    for name, array in weights.items():
        assert loaded.weights[name].dtype == array.dtype
        assert loaded.weights[name].tobytes() == array.tobytes()
        assert loaded.weights[name].shape == array.shape


def test_arrays_of_any_layout_are_saved(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    weights = {"t": base.T, "strided": base[::2, ::-1], "scalar": np.float32(3)}
    save_checkpoint(tmp_path / "x", replace(SMALL, weights=weights))
    for name, array in load_checkpoint(tmp_path / "x").weights.items():
        np.testing.assert_array_equal(array, weights[name])


def test_the_file_names_nothing_but_numpy_arrays(tmp_path):
    save_checkpoint(tmp_path / "x", SMALL)
    operations = [operation.name for operation, _, _ in pickletools.genops((tmp_path / "x").read_bytes())]
    assert not {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BINPERSID", "EXT1"} & set(operations)
    strings = [value for _, value, _ in pickletools.genops((tmp_path / "x").read_bytes()) if isinstance(value, str)]
    assert not {"builtins", "os", "posix", "tools.common.checkpoint"} & set(strings)


def test_paddle_reads_it_too(tmp_path):
    save_checkpoint(tmp_path / "x.pdparams", SMALL)
    content = paddle.load(str(tmp_path / "x.pdparams"), return_numpy=True)
    assert content["class_names"] == ["cat", "dog"]
    np.testing.assert_array_equal(content["weights"]["a.weight"], SMALL.weights["a.weight"])


def test_a_file_that_runs_code_is_refused_and_runs_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    path = write(tmp_path / "evil.pdparams", {**FORMAT, "source": Evil()})
    with pytest.raises(InputError, match="refused"):
        load_checkpoint(path)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"just text\n", b"\x80\x04", b"PK\x03\x04 a zip", pickle.dumps([1, 2]), pickle.dumps({"a": np.zeros(2)})],
    ids=["empty", "text", "cut off", "zip", "list", "bare weights"],
)
def test_what_is_no_checkpoint_is_a_one_line_error_with_its_name(tmp_path, content):
    path = tmp_path / "some.pdparams"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pdparams", b"", "is empty; copy or download it again"),
        (
            "step_1.pdstate",
            pickle.dumps({"a": 1}),
            "is a training state; give the checkpoint beside it",
        ),
    ],
)
def test_the_remedy_fits_the_file(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_checkpoint(tmp_path / name)


def test_damage_of_the_checkpoint_in_the_box_is_noticed(tmp_path):
    content = bytearray((PROJECT / "weights" / "solov2_tiny_shapes.pdparams").read_bytes())
    content[3_000_000] ^= 0x40
    (tmp_path / "a.pdparams").write_bytes(content)
    with pytest.raises(InputError, match="does not match its checksum"):
        load_checkpoint(tmp_path / "a.pdparams")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.pdparams", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_checkpoint(path)


@settings(max_examples=60)
@given(data=st.data())
def test_a_cut_off_checkpoint_is_a_user_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "x.pdparams"
    save_checkpoint(path, SMALL)
    whole = path.read_bytes()
    without_checksum = whole.index(b"crc32 ")  # complete, as earlier versions wrote it
    length = data.draw(st.integers(0, len(whole) - 1).filter(lambda length: length != without_checksum))
    path.write_bytes(whole[:length])
    with pytest.raises(InputError, match="x.pdparams"):
        load_checkpoint(path)


def flip_bit(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@settings(max_examples=60)
@given(data=st.data())
def test_a_flipped_bit_is_a_user_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flipped") / "x.pdparams"
    save_checkpoint(path, SMALL)
    flip_bit(path, data.draw(st.integers(0, 8 * path.stat().st_size - 1)))
    with pytest.raises(InputError, match="x.pdparams"):
        load_checkpoint(path)


def test_damaged_weights_are_a_one_line_error_with_a_remedy(tmp_path):
    path = tmp_path / "x.pdparams"
    weights = np.ones(100_000, np.float32)
    save_checkpoint(path, replace(SMALL, weights={"a": weights}))
    whole = path.read_bytes()
    zeroed = whole[:4096] + bytes(4096) + whole[8192:]
    path.write_bytes(zeroed)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == (
        f"{path}: its content does not match its checksum; the file is damaged or incomplete, download or copy it again"
    )
    path.write_bytes(whole[: -len("crc32 01234567\n")])  # as earlier versions wrote it
    np.testing.assert_array_equal(load_checkpoint(path).weights["a"], weights)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_by_number(tmp_path, version):
    path = write(tmp_path / "x", {**FORMAT, "format_version": version})
    with pytest.raises(InputError, match=f"format version {version}"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", [key for key in FORMAT if key != "format_version"])
def test_a_checkpoint_without_one_of_its_keys_is_damaged(tmp_path, key):
    path = write(tmp_path / "x.pdparams", {name: value for name, value in FORMAT.items() if name != key})
    with pytest.raises(InputError, match="x.pdparams"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": [1]},
        {"weights": {"a": "text"}},
        {"class_names": 3},
        {"class_names": ["a", "b"], "category_ids": [1]},
        {"class_names": ["a", "b"], "category_ids": [1, 1]},
        {"class_names": ["a", "a"], "category_ids": [1, 2]},
        {"overrides": 5},
        {"format_version": np.zeros(3)},
    ],
    ids=lambda wrong: " ".join(wrong),
)
def test_a_checkpoint_with_other_content_is_damaged(tmp_path, wrong):
    path = write(tmp_path / "x.pdparams", {**FORMAT, **wrong})
    with pytest.raises(InputError, match="x.pdparams"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["full disk", "Ctrl-C"],
)
def test_a_failing_write_leaves_the_old_checkpoint(tmp_path, monkeypatch, error, raised):
    path = tmp_path / "x.pdparams"
    save_checkpoint(path, SMALL)

    def write_half(content, stream, protocol):
        stream.write(b"half")
        raise error

    monkeypatch.setattr(pickle, "dump", write_half)
    with pytest.raises(raised):
        save_checkpoint(path, replace(SMALL, config_name="new"))
    assert load_checkpoint(path).config_name == SMALL.config_name
    assert list(tmp_path.iterdir()) == [path]


def test_differences_are_told_in_words():
    expected = {"a": (2, 3), "b": (4,), "c": (1,)}
    assert compare_shapes(expected, expected) == ""
    assert compare_shapes(expected, {"a": (3, 2), "b": (4,), "d": ()}) == (
        "other shape: a (3, 2) instead of (2, 3); missing: c; unknown: d"
    )
    many = {f"w{number}": (1,) for number in range(20)}
    assert compare_shapes(many, {}) == "missing: w0, w1, w2, w3, w4, w5, w6, w7 and 12 more"
    others = {f"x{i}": shape for i, shape in enumerate(many.values())}
    both = {**dict(list(many.items())[:1]), **others}  # two lists share ten names
    lists = "missing: w1, w2, w3, w4, w5 and 14 more; unknown: x0, x1, x2, x3, x4 and 15 more"
    assert compare_shapes(many, both) == lists


def test_weights_that_do_not_fit_change_nothing():
    network = paddle.nn.Linear(2, 3)
    before = network.weight.numpy().copy()
    good = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}
    for wrong in ({"bias": good["bias"]}, {**good, "more": good["bias"]}, {**good, "bias": np.ones(4, np.float32)}):
        with pytest.raises(InputError, match="my.pdparams does not fit config c3: "):
            load_weights(network, wrong, path="my.pdparams", config_name="c3")
        np.testing.assert_array_equal(network.weight.numpy(), before)
    load_weights(network, good, path="my.pdparams", config_name="c3")
    np.testing.assert_array_equal(network.weight.numpy(), good["weight"])


def test_what_does_not_fit_stays_as_it_is_and_is_told_once():
    network = paddle.nn.Sequential(paddle.nn.Linear(2, 3), paddle.nn.BatchNorm1D(3))
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    given = {
        "0.weight": np.full((2, 3), 7, np.float32),
        "0.bias": np.ones(4, np.float32),
        "1._mean": np.full(3, 5, np.float32),
        "2.weight": np.ones(1, np.float32),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left = load_fitting_weights(network, given, path="other.pdparams")
    assert sorted(left) == [
        "0.bias: (4,) in the file, (3,) here",
        "1._variance: not in the file",
        "1.bias: not in the file",
        "1.weight: not in the file",
        "2.weight: not in this network",
    ]
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, given[name] if name in ("0.weight", "1._mean") else before[name])
    with pytest.raises(InputError, match="other.pdparams"):
        load_fitting_weights(network, {"2.weight": given["2.weight"]}, path="other.pdparams")


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_weights_of_another_type_are_converted_or_refused(dtype):
    """A network never computes with weights that a conversion of dtype has changed."""
    network = paddle.nn.Linear(2, 3)
    weights = {"weight": np.full((2, 3), 2, dtype), "bias": np.full(3, 1, dtype)}
    try:
        load_weights(network, weights, path="my.pdparams", config_name="c3")
    except InputError:
        return
    assert network.weight.dtype == paddle.float32
    np.testing.assert_array_equal(network(paddle.ones([1, 2])).numpy(), np.full((1, 3), 5, np.float32))


def test_the_overrides_of_a_checkpoint_are_applied_and_the_users_own_win(trained):
    config = load_config(tiny.CONFIG)
    adapted = load_checkpoint(trained).adapt(config)
    assert (adapted.data.short_side, adapted.head.num_grids) == (64, (12, 10, 8, 6, 4))
    assert (config.data.short_side, config.num_classes) == (448, 80)
    predictor = tiny.predictor(tiny.CONFIG, trained, overrides=["data.short_side=48", "test_cfg.score=0.5"])
    assert (predictor.config.data.short_side, predictor.config.data.long_side) == (48, 96)
    assert predictor.score == 0.5


def test_the_number_of_classes_follows_the_checkpoint(trained):
    predictor = tiny.predictor(tiny.CONFIG, trained, score=0)
    assert predictor.config.num_classes == 3
    assert predictor.classes == ClassList(names=("cap", "ring", "belt"), ids=(7, 12, 31))
    found = predictor(tiny.scene(1))
    assert len(found) > 0
    assert {row["category_id"] for row in found.to_coco(1)} <= {7, 12, 31}


def test_a_backbone_alone_is_refused_with_a_reason(trained, tmp_path):
    weights = {name: array for name, array in load_checkpoint(trained).weights.items() if name.startswith("backbone.")}
    path = tmp_path / "resnet18_imagenet.pdparams"
    save_checkpoint(path, Checkpoint(weights, ClassList((), ()), config_name=""))
    with pytest.raises(InputError, match=r"resnet18_imagenet\.pdparams"):
        tiny.predictor(tiny.CONFIG, path)


def test_the_wrong_config_is_named_together_with_the_right_one(trained):
    with pytest.raises(InputError) as caught:
        tiny.predictor(1, trained)
    assert str(trained) in str(caught.value)
    assert "solov2_light_448_r50_fpn_8gpu_3x" in str(caught.value)
    assert "solov2_light_448_r18_fpn_8gpu_3x" in str(caught.value), "the config that the file was made for"


def test_the_score_is_stored_in_the_file_that_a_link_points_to(tmp_path):
    target, link = tmp_path / "x.pdparams", tmp_path / "link.pdparams"
    save_checkpoint(target, SMALL)
    link.symlink_to(target.name)
    store_score(link, 0.25)
    assert link.is_symlink() and "test_cfg.score=0.25" in load_checkpoint(target).overrides


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_weights_that_are_not_finite_are_refused(value):
    network = paddle.nn.Linear(2, 2)
    weights = {name: array.numpy() for name, array in network.state_dict().items()}
    weights["bias"] = np.float64([1, value])
    with pytest.raises(InputError, match="x.pdparams: has values that are not finite numbers in bias"):
        load_weights(network, weights, path="x.pdparams", config_name="c")


def test_variances_below_0_are_refused():
    with pytest.raises(InputError, match="x.pdparams: has variances below 0 in a._variance"):
        check_finite({"a._variance": np.float32([1, -1])}, "x.pdparams")
