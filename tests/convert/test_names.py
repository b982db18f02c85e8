"""Every name in another program's checkpoint is mapped to exactly one of our parameters, and none is missing.

The complete lists of names that the programs recorded are used where they are available, and for every published
checkpoint `tests/support/foreign_names.py`. Single names to look at are in `test_names_by_hand.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_config, registry
from config.errors import InputError
from convert.conversion import NameTable, Shapes, backbone_shapes, fill, network_shapes
from convert.names import CENTERMASK2, MOBILENET, OPENFIREWORK, PPDET_0_5, PPDET_2, SOLO, SSLD, TORCHVISION, VOVNET
from convert.sources import plain_resnets
from tests.support import centermask2, foreign_names
from tests.support.parity import PARITY, needs_parity

CLAS_1, CLAS_2_0, CLAS_2, PPDET_2_BACKBONE = SSLD
PPDET = (PPDET_2, PPDET_0_5)


@dataclass(frozen=True)
class Source:
    """The checkpoints of a program: the tables its script tries, the right one, and the configs they are for."""

    tables: tuple[NameTable, ...]
    table: NameTable
    names: Callable[[Shapes], dict[str, str]]
    configs: Sequence[int]
    script: str


SOURCES = (
    Source((SOLO,), SOLO, foreign_names.solo, (0, 1, *range(3, 10), *range(12, 20)), "convert/solo2paddle.py"),
    Source((OPENFIREWORK,), OPENFIREWORK, foreign_names.openfirework, (3, 4), "convert/openfirework2paddle.py"),
    Source(PPDET, PPDET_2, foreign_names.ppdet_2, (0, 6, 10, 11), "convert/ppdet2paddle.py"),
    Source(PPDET, PPDET_0_5, foreign_names.ppdet_0_5, (0, 2, 6, 22, 23), "convert/ppdet2paddle.py"),
    Source((CENTERMASK2,), CENTERMASK2, foreign_names.centermask2, range(30, 41), "convert/centermask2paddle.py"),
)
SOURCE_OF = {source.table: source for source in SOURCES}
NETWORKS = [(source, number) for source in SOURCES for number in source.configs]
SHAPES = {number: network_shapes(load_config(number)) for number in registry()}
BACKBONES = {config.depth: backbone_shapes(config) for config in plain_resnets(18, 34, 50, 101, variant="b")}
(RESNET50_VD,) = (backbone_shapes(config) for config in plain_resnets(50, variant="d"))

# (recorded list of names, our parameters, the right table, the tables its script tries, names by foreign_names)
RECORDED = (
    *(
        (f"{prefix}_{model}", SHAPES[number], table, SOURCE_OF[table].tables, SOURCE_OF[table].names)
        for prefix, model, number, table in (
            ("solo", "solov2_r50_fpn_8gpu_3x", 0, SOLO),
            ("solo", "solov2_light_448_r50_fpn_8gpu_3x", 1, SOLO),
            ("solo", "solov2_light_448_r18_fpn_8gpu_3x", 3, SOLO),
            ("solo", "solov2_light_448_r34_fpn_8gpu_3x", 4, SOLO),
            ("solo", "solov2_light_512_dcn_r50_fpn_8gpu_3x", 5, SOLO),
            ("solo", "solov2_r101_dcn_fpn_8gpu_3x", 8, SOLO),
            ("solo", "solo_r50_fpn_8gpu_3x", 13, SOLO),
            ("solo", "decoupled_solo_r50_fpn_8gpu_3x", 16, SOLO),
            ("solo", "decoupled_solo_light_r50_fpn_8gpu_3x", 18, SOLO),
            ("openfirework", "solov2_r18", 3, OPENFIREWORK),
            ("openfirework", "solov2_r34", 4, OPENFIREWORK),
            ("ppdet", "solov2_r50_fpn_3x_coco", 0, PPDET_2),
            ("ppdet", "solov2_r50_enhance_coco", 11, PPDET_2),
            ("ppdet05", "solov2_r50_fpn_3x", 0, PPDET_0_5),
            ("ppdet05", "solov2_light_r50_vd_fpn_dcn_512_3x", 2, PPDET_0_5),
            ("ppdet05", "solov2_mobilenetv3_fpn_448_3x", 22, PPDET_0_5),
        )
    ),
    ("ppdet05_ResNet50_vd_ssld_pretrained", RESNET50_VD, CLAS_1, SSLD, foreign_names.clas_1),
    *(
        (model, SHAPES[number], CENTERMASK2, (CENTERMASK2,), foreign_names.centermask2)
        for number, model in centermask2.MODELS.items()
    ),
)

few_examples = settings(max_examples=40)


def stand_ins(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return arrays of these shapes that take no memory: all values of an array are its index among the names."""
    return {name: np.broadcast_to(np.float32(place), shape) for place, (name, shape) in enumerate(shapes.items())}


def foreign_checkpoint(source: Source, number: int) -> dict[str, np.ndarray]:
    shapes = SHAPES[number]
    names = source.names(shapes).items()
    return stand_ins({theirs: foreign_shape(source, ours, shapes[ours]) for ours, theirs in names})


def foreign_shape(source: Source, ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a parameter of ours has in the file."""
    return shape[::-1] if source.table.is_transposed(ours) else shape


def origins(filled: Mapping[str, np.ndarray], foreign: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the name in the file that each of our parameters was filled from."""
    names = list(foreign)
    return {ours: names[int(array.min())] for ours, array in filled.items()}


@needs_parity
@pytest.mark.parametrize(
    ("record", "expected", "right_table", "tables", "names"), RECORDED, ids=[r[0] for r in RECORDED]
)
def test_recorded_names_are_each_used_once(record, expected, right_table, tables, names):
    described = json.loads((PARITY / f"{record}_shapes.json").read_text())
    shapes, aliases = described.get("shapes", described), described.get("aliases", {})
    foreign = stand_ins({**shapes, **{alias: shapes[name] for alias, name in aliases.items()}})
    weights, table = fill(expected, foreign, tables)
    assert table is right_table
    assert origins(weights, foreign) == names(expected)
    assert {name: array.shape for name, array in weights.items()} == expected
    unused = foreign.keys() - set(origins(weights, foreign).values())
    assert len(foreign) - len(unused) == len(expected)
    assert all(name in aliases or name.endswith("num_batches_tracked") or name.startswith("fc_0") for name in unused)


@needs_parity
def test_every_recorded_list_of_names_is_tested():
    patterns = ("*solo*", "*ResNet*", "cm2*")
    recorded = {path.name for pattern in patterns for path in PARITY.glob(f"{pattern}_shapes.json")}
    assert recorded == {f"{record[0]}_shapes.json" for record in RECORDED}


def test_every_published_checkpoint_has_a_source():
    published = {(number, p.convert) for number, config in registry().items() for p in config.published}
    assert published == {(number, source.script) for source, number in NETWORKS}


@pytest.mark.parametrize(("source", "number"), NETWORKS, ids=[f"{s.table.program}-{n}" for s, n in NETWORKS])
def test_published_checkpoint_fills_its_config(source, number):
    foreign = foreign_checkpoint(source, number)
    weights, table = fill(SHAPES[number], foreign, source.tables)
    assert table is source.table
    assert origins(weights, foreign) == source.names(SHAPES[number])


@pytest.mark.parametrize("depth", BACKBONES)
@pytest.mark.parametrize("has_classifier", [True, False])
def test_torchvision_resnet_fills_its_backbone(depth, has_classifier):
    expected = BACKBONES[depth]
    named = {theirs: expected[ours] for ours, theirs in foreign_names.torchvision(expected).items()}
    classifier = {"fc.weight": (1000, 512), "fc.bias": (1000,), "bn1.num_batches_tracked": ()}
    foreign = stand_ins({**named, **(classifier if has_classifier else {})})
    weights, _ = fill(expected, foreign, (TORCHVISION,))
    assert origins(weights, foreign) == foreign_names.torchvision(expected)


@pytest.mark.parametrize("number", [30, 32, 33, 34, 35, 36, 37])
@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_imagenet_checkpoint_of_centermask2_fills_its_backbone(number, prefix):
    config = load_config(number).backbone
    expected = backbone_shapes(config)
    is_mobilenet = config.kind == "mobilenetv2"
    table, theirs_of = (MOBILENET, foreign_names.mobilenet) if is_mobilenet else (VOVNET, foreign_names.vovnet)
    names = {ours: f"{prefix}{theirs}" for ours, theirs in theirs_of(expected).items()}
    extra = {"classifier.weight": (1000, 1024), "classifier.bias": (1000,), "stem.stem_1/norm.num_batches_tracked": ()}
    if is_mobilenet:
        extra.update({f"{prefix}features.18.0.weight": (1280, 320, 1, 1), f"{prefix}features.18.1.bias": (1280,)})
    foreign = stand_ins({**{theirs: expected[ours] for ours, theirs in names.items()}, **extra})
    weights, _ = fill(expected, foreign, (table,))
    assert origins(weights, foreign) == names


def test_ssld_mobilenetv3_fills_its_backbone():
    expected = backbone_shapes(load_config(22).backbone)
    names = foreign_names.clas_1(expected)
    extra = {"last_1x1_conv_weights": (1280, 960, 1, 1), "fc_weights": (1280, 1000), "fc_offset": (1000,)}
    foreign = stand_ins({**{theirs: expected[ours] for ours, theirs in names.items()}, **extra})
    weights, table = fill(expected, foreign, SSLD)
    assert table is CLAS_1
    assert origins(weights, foreign) == names
    assert sum(array.size for array in weights.values()) == 2_970_406 + 24_432  # with the statistics of the norms


def test_ssld_backbone_by_each_of_its_tables():
    in_detector = {ours: theirs[len("backbone.") :] for ours, theirs in foreign_names.ppdet_2(RESNET50_VD).items()}
    for names, right_table in (
        (foreign_names.clas_1(RESNET50_VD), CLAS_1),
        (foreign_names.clas_2_0(RESNET50_VD), CLAS_2_0),
        (foreign_names.clas_2(RESNET50_VD), CLAS_2),
        (in_detector, PPDET_2_BACKBONE),
    ):
        foreign = stand_ins({theirs: RESNET50_VD[ours] for ours, theirs in names.items()})
        weights, table = fill(RESNET50_VD, foreign, SSLD)
        assert table is right_table
        assert origins(weights, foreign) == names


@st.composite
def checkpoint_and_name(draw):
    """Draw a checkpoint and one of our parameters in it."""
    source, number = draw(st.sampled_from(NETWORKS))
    return source, number, draw(st.sampled_from(sorted(SHAPES[number])))


@few_examples
@given(checkpoint_and_name())
def test_missing_parameter_is_named(case):
    source, number, ours = case
    foreign = foreign_checkpoint(source, number)
    del foreign[source.names(SHAPES[number])[ours]]
    with pytest.raises(InputError) as caught:
        fill(SHAPES[number], foreign, source.tables)
    assert str(caught.value) == f"missing: {ours}"


@few_examples
@given(checkpoint_and_name(), st.sampled_from(["ema_decay", "head.scale", "backbone.extra.weight", "fc0.w", "ours.b"]))
def test_extra_entry_is_named(case, name):
    source, number, _ = case
    foreign = {**foreign_checkpoint(source, number), name: np.zeros(3, np.float32)}
    with pytest.raises(InputError) as caught:
        fill(SHAPES[number], foreign, source.tables)
    assert str(caught.value) == f"unknown: {name}"


@few_examples
@given(checkpoint_and_name())
def test_other_shape_is_named(case):
    source, number, ours = case
    foreign = foreign_checkpoint(source, number)
    expected = SHAPES[number][ours]
    found = (expected[0] + 1, *expected[1:])
    foreign[source.names(SHAPES[number])[ours]] = np.broadcast_to(np.float32(0), foreign_shape(source, ours, found))
    with pytest.raises(InputError) as caught:
        fill(SHAPES[number], foreign, source.tables)
    assert str(caught.value) == f"other shape: {ours} {found} instead of {expected}"


@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_old_and_new_spelling_of_an_offset_together(leaf):
    foreign = foreign_checkpoint(SOURCE_OF[SOLO], 8)
    new, old = f"backbone.layer3.22.conv2.conv_offset.{leaf}", f"backbone.layer3.22.conv2_offset.{leaf}"
    foreign[old] = foreign[new]
    with pytest.raises(InputError, match="are the same parameter") as caught:
        fill(SHAPES[8], foreign, (SOLO,))
    assert new in str(caught.value)
    assert old in str(caught.value)


def test_old_spelling_of_offsets_fills():
    foreign = foreign_checkpoint(SOURCE_OF[SOLO], 8)
    renamed = {
        name.replace("conv2.conv_offset", "conv2_offset") if name.startswith("backbone") else name: array
        for name, array in foreign.items()
    }
    assert renamed.keys() != foreign.keys()
    weights, _ = fill(SHAPES[8], renamed, (SOLO,))
    assert weights.keys() == SHAPES[8].keys()


TWO_PARAMETERS = {"neck.lateral_convs.0.weight": (2,), "neck.lateral_convs.0.bias": (2,)}


def test_float16_and_float64_become_float32():
    theirs = {
        "neck.lateral_convs.0.conv.weight": np.float64([1, 2]),
        "neck.lateral_convs.0.conv.bias": np.float16([3, 4]),
    }
    weights, _ = fill(TWO_PARAMETERS, theirs, (SOLO,))
    assert [array.dtype for array in weights.values()] == [np.float32, np.float32]
    assert [array.tolist() for array in weights.values()] == [[1.0, 2.0], [3.0, 4.0]]


def test_integers_are_refused_as_weights():
    theirs = {
        "neck.lateral_convs.0.conv.weight": np.uint16([0x3F80, 0x4000]),
        "neck.lateral_convs.0.conv.bias": np.float32([3, 4]),
    }
    with pytest.raises(InputError, match=r"neck\.lateral_convs\.0\.conv\.weight.*uint16"):
        fill(TWO_PARAMETERS, theirs, (SOLO,))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(value):
    expected = BACKBONES[18]
    foreign = stand_ins({theirs: expected[ours] for ours, theirs in foreign_names.torchvision(expected).items()})
    foreign["bn1.bias"] = np.full(foreign["bn1.bias"].shape, value)
    with pytest.raises(InputError, match="bn1.bias has values that are not finite in float32"):
        fill(expected, foreign, (TORCHVISION,))
