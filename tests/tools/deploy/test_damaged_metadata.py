"""Metadata that is damaged or made up ends in one line, whichever program reads it, and changes networks only."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eval as evaluation
from config.base import Config
from config.errors import InputError
from config.overrides import differences
from data.images import write_image
from tests.support import tiny
from tests.support.exports import BOXES, SIZE, config_of, needs_onnx, of_kind, on_board
from tests.support.programs import run_main
from tests.support.slow import slow_except_first
from tools import infer_onnx, postprocess_bin_outputs, preprocess_inputs_to_bin, quantize
from tools.common.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tools.deploy.exported import METADATA, metadata_of, open_exported, read_metadata

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

pytestmark = needs_onnx

FIXED = f"--input-size={SIZE[0]}x{SIZE[1]}"
WHOLE = "--end-to-end"
DEEP = "[" * 100_000 + "]" * 100_000
MISSING = object()


@cache
def metadata_text(kind: str, *options: str) -> str:
    return open_exported(of_kind(kind, *options)).get_modelmeta().custom_metadata_map[METADATA]


def changed(text: str, **items: object) -> str:
    content = {**json.loads(text), **items}
    return json.dumps({key: value for key, value in content.items() if value is not MISSING})


def with_override(text: str, *assignments: str) -> str:
    return changed(text, overrides=[*json.loads(text)["overrides"], *assignments])


def output(**items: object) -> dict:
    return {"name": "scores", "dtype": "float32", "shape": [], **items}


DAMAGES = {
    "empty": lambda text: "",
    "deep": lambda text: DEEP,
    "deep inside": lambda text: text[:-1] + f', "overrides": {DEEP}}}',
    "deep override": lambda text: with_override(text, f"data.mean={DEEP}"),
    "a list": lambda text: "[1]",
    "a number of thousands of digits": lambda text: "9" * 9999,
    "too few classes": lambda text: changed(text, class_names=["a"], category_ids=[1]),
    "no classes": lambda text: changed(text, class_names=[], category_ids=[]),
    "fewer ids": lambda text: changed(text, category_ids=[1, 2]),
    "ids that are text": lambda text: changed(text, category_ids=["1"] * 80),
    "names that are numbers": lambda text: changed(text, class_names=[1] * 80),
    "another mean": lambda text: changed(text, mean=[0.0, 0.0, 0.0]),
    "a mean that is none": lambda text: changed(text, mean=float("nan")),
    "no short_side": lambda text: changed(text, short_side=MISSING),
    "a config of thousands of digits": lambda text: changed(text, config="9" * 9999),
    "a config outside of its folder": lambda text: changed(text, config="../elsewhere/x"),
    "a config that is a path": lambda text: changed(text, config="/elsewhere"),
    "another kind": lambda text: with_override(text, "head.kind=decoupled_solo"),
    "boxes": lambda text: with_override(text, "head.kind=centermask2"),
    "another version": lambda text: changed(text, format_version=3),
    "a version that is none": lambda text: changed(text, format_version=[]),
    "huge sides": lambda text: with_override(text, "data.short_side=1000000000", "data.long_side=1000000000"),
    "huge size": lambda text: with_override(text, "data.fixed_size=1000000000,1000000000"),
    "huge divisor": lambda text: with_override(text, "data.size_divisor=3200000000"),
    "huge grids": lambda text: with_override(text, "head.num_grids=1000000000,10,8,6,4"),
    "another size": lambda text: with_override(text, "data.fixed_size=96,64"),
    "a folder to write to": lambda text: with_override(text, "test_pre_path=/elsewhere"),
    "a checkpoint": lambda text: with_override(text, "test_cfg.model_path=elsewhere"),
    "a field that is none": lambda text: with_override(text, "nms.nothing=1"),
    "a value against a rule": lambda text: with_override(text, "nms.sigma=-1"),
    "an override that is none": lambda text: changed(text, overrides=["nms"]),
    "overrides that are a number": lambda text: changed(text, overrides=3),
    "instances instead of predictions": lambda text: changed(text, end_to_end=not json.loads(text)["end_to_end"]),
    "end_to_end that is a list": lambda text: changed(text, end_to_end=[]),
    "no outputs": lambda text: changed(text, outputs=[]),
    "outputs that are text": lambda text: changed(text, outputs="scores"),
    "an output of objects": lambda text: changed(text, outputs=[output(dtype="O")]),
    "an output without a shape": lambda text: changed(text, outputs=[output(shape=MISSING)] and [{"name": "scores"}]),
    "an infinite output": lambda text: changed(text, outputs=[output(shape=[float("inf")])]),
    "an output that is a list": lambda text: changed(text, outputs=[output(name=[])]),
    **{
        f"no {key}": lambda text, key=key: changed(text, **{key: MISSING})
        for key in ("format_version", "config", "overrides", "class_names", "category_ids", "end_to_end", "outputs")
    },
}
# What only the values of an end-to-end graph reveal, and what its decoding inside does not depend on.
ACCEPTED_END_TO_END = {"too few classes", "another kind", "huge grids"}


def write_model(model: Path, text: str, path: Path) -> Path:
    """Write a copy of an ONNX file with other metadata."""
    import onnx

    graph = onnx.load(model)
    onnx.helper.set_model_props(graph, {METADATA: text})
    onnx.save(graph, path)
    return path


def assert_one_line(main, *arguments: object) -> str:
    status, _, err = run_main(main, *arguments)
    assert status == 2 and err.count("\n") == 1 and len(err) < 2000, err
    return err


@slow_except_first("name", ["deep", "another kind", "huge sides", "a folder to write to"])
def test_every_program_says_so_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png", tiny.scene(0))
    model = write_model(of_kind("solov2"), DAMAGES[name](metadata_text("solov2")), tmp_path / "a.onnx")
    for main, *options in (
        (infer_onnx.main, model, "a.png", "--output=drawn"),
        (evaluation.main, "--engine=onnx", model, "--output=report"),
        (preprocess_inputs_to_bin.main, model, "a.png", FIXED, "--output=."),
        (quantize.main, "--onnx", model, "--images=a.png", "--output=int8.onnx"),
    ):
        assert "a.onnx" in assert_one_line(main, *options)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.onnx"}


def test_an_exported_network_does_not_depend_on_the_file_of_its_config():
    """The file may have changed since, or be gone. Version 1 names the differences from it."""
    text, expected = metadata_text("solov2"), config_of("solov2")
    old = changed(text, format_version=1, overrides=differences(expected))
    for variant in (text, changed(text, config="solov2_tiny_shapes"), changed(text, config="gone"), old):
        found = metadata_of(variant, "a.onnx").config
        assert differences(found, Config()) == differences(expected, Config())
    gone = metadata_of(changed(text, config="gone"), "a.onnx")
    assert json.loads(gone.to_json())["number"] == json.loads(text)["number"]  # as boards get it


@pytest.mark.parametrize("version", [1, 2])
def test_a_damaged_file_of_a_config_is_named(monkeypatch, version):
    """Without its own config an exported network would be evaluated in another way, such as with fewer instances."""

    def fail():
        raise InputError("config/mine.py, line 1: SyntaxError: invalid syntax; correct this file")

    text = changed(metadata_text("solov2"), format_version=version)
    monkeypatch.setattr("tools.deploy.exported.registry", fail)
    with pytest.raises(InputError, match="^config/mine.py, line 1"):
        metadata_of(text, "a.onnx")


def test_evaluation_says_that_the_config_is_gone(tmp_path):
    """Its defaults count fewer instances than the network's own config may."""
    model = write_model(of_kind("solov2"), changed(metadata_text("solov2"), config="gone"), tmp_path / "a.onnx")
    status, _, err = run_main(evaluation.main, "--engine=onnx", model, f"-oval_path={tmp_path / 'none.json'}")
    assert status == 2 and err.startswith(f"{model}: there is no config gone; eval_cfg and paths have their defaults\n")


class SessionWith:
    """A graph with other metadata, without a copy of its file."""

    def __init__(self, session: InferenceSession, text: str) -> None:
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.get_modelmeta = lambda: SimpleNamespace(custom_metadata_map={METADATA: text})


@slow_except_first(
    ("kind", "way"),
    [
        ("solov2", ()),
        ("solov2", (WHOLE,)),
        *((kind, (FIXED,)) for kind in tiny.GRID_KINDS),
        (BOXES, (WHOLE, FIXED)),
    ],
)
def test_every_export_fits_its_own_metadata_and_no_damaged_one(kind, way):
    session, text = open_exported(of_kind(kind, *way)), metadata_text(kind, *way)
    assert read_metadata(SessionWith(session, text), "a.onnx").to_json() == text
    for name, damage in DAMAGES.items():
        if (kind, name) in (("decoupled_solo", "another kind"), (BOXES, "boxes")):
            continue
        if WHOLE in way and name in ACCEPTED_END_TO_END:
            continue
        with pytest.raises(InputError, match=r"^a\.onnx: ") as error:
            read_metadata(SessionWith(session, damage(text)), "a.onnx")
        assert len(str(error.value)) < 1000, name


def test_a_class_beyond_the_list_of_an_end_to_end_graph_is_one_line(tmp_path):
    write_image(tmp_path / "a.png", tiny.scene(0))
    few = DAMAGES["too few classes"](metadata_text("solov2", WHOLE))
    model = write_model(of_kind("solov2", WHOLE), few, tmp_path / "a.onnx")
    assert "has 1 classes" in assert_one_line(infer_onnx.main, model, tmp_path / "a.png", "--no-draw", "--score=0")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_anywhere_is_accepted_or_one_line(data):
    text = metadata_text("solov2", FIXED)
    content = json.loads(text)
    place = content
    while isinstance(place, (dict, list)) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    try:
        metadata = metadata_of(json.dumps(content), "a.onnx")
    except InputError as error:
        assert "a.onnx" in str(error)
    else:
        assert len(metadata.classes) == 80
        assert differences(metadata.config, Config()) == tuple(content["overrides"])  # an empty list is valid too


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Path:
    """A folder with the inputs and outputs of a board that ran a network on one picture."""
    folder = tmp_path_factory.mktemp("board")
    write_image(folder / "a.png", tiny.scene(0))
    model = of_kind("solov2", FIXED)
    assert run_main(preprocess_inputs_to_bin.main, model, folder / "a.png", "--output", folder / "inputs")[0] == 0
    on_board(model, folder / "inputs", folder / "outputs", postprocess_bin_outputs.NAMES)
    return folder


def picture(index: dict, **items: object) -> dict:
    (entry,) = index["pictures"]
    return {**index, "pictures": [{**entry, **items}]}


def transposed(index: dict) -> dict:
    """State another shape with as many numbers."""
    *others, feats = index["metadata"]["outputs"]
    shape = [*feats["shape"][:2], *feats["shape"][:1:-1]]
    return {**index, "metadata": {**index["metadata"], "outputs": [*others, {**feats, "shape": shape}]}}


INDEX_DAMAGES = {
    "a list": lambda index: [index],
    "no pictures": lambda index: {"metadata": index["metadata"]},
    "no metadata": lambda index: {"pictures": index["pictures"]},
    "pictures that are a number": lambda index: {**index, "pictures": 3},
    "a picture that is text": lambda index: {**index, "pictures": ["a"]},
    "a name that is a number": lambda index: picture(index, name=3),
    "a name with a folder": lambda index: picture(index, name="../outside"),
    "a name with a zero": lambda index: picture(index, name="a\0b"),
    "a path that is a number": lambda index: picture(index, path=3),
    "an image id that is text": lambda index: picture(index, image_id="1"),
    "no image id": lambda index: {**index, "pictures": [{"name": "a"}]},
    "a size with three sides": lambda index: picture(index, original_size=[1, 2, 3]),
    "no size": lambda index: picture(index, original_size=[]),
    "an empty size": lambda index: picture(index, original_size=[0, 9]),
    "a negative size": lambda index: picture(index, resized=[-1, 9]),
    "a huge size": lambda index: picture(index, original_size=[10**9, 10**9]),
    "another shape of the picture": lambda index: picture(index, original_size=[120, 80]),
    "a size that is not that of the picture": lambda index: picture(index, resized=[1, 1]),
    "classes of one id": lambda index: {
        **index,
        "metadata": {**index["metadata"], "category_ids": [1] * len(index["metadata"]["category_ids"])},
    },
    "larger than the input": lambda index: picture(index, resized=[64, 97]),
    "another shape": transposed,
    "a folder to write to": lambda index: {
        **index,
        "metadata": json.loads(with_override(json.dumps(index["metadata"]), "test_pre_path=/elsewhere")),
    },
}


@pytest.mark.parametrize("damage", INDEX_DAMAGES.values(), ids=INDEX_DAMAGES)
def test_a_damaged_index_is_one_line(board, tmp_path, damage):
    text = (board / "inputs" / "index.json").read_text()
    for damaged in (json.dumps(damage(json.loads(text))), text[:-9], DEEP):
        (tmp_path / "index.json").write_text(damaged)
        rest = tmp_path, board / "outputs", "--json", tmp_path / "found.json"
        assert "index.json" in assert_one_line(postprocess_bin_outputs.main, *rest)


def test_a_checkpoint_changes_networks_only(tmp_path):
    weights = {"a": np.zeros(1, np.float32)}
    classes = metadata_of(metadata_text("solov2"), "").classes
    for assignment in ("test_pre_path=/elsewhere", "train_cfg.model_path=a"):
        overrides = ("data.resize_by=factor", assignment)
        save_checkpoint(tmp_path / "a.pdparams", Checkpoint(weights, classes, "solov2_tiny_shapes", overrides))
        with pytest.raises(InputError, match=f"a.pdparams: has overrides .*{assignment}"):
            load_checkpoint(tmp_path / "a.pdparams")
