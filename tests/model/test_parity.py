"""The networks compute the recorded numbers of the original programs, from the picture to the instances."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import chain

import numpy as np
import paddle
import pytest

from config import load_config
from convert.conversion import fill, network_shapes
from convert.names import PPDET_0_5, PPDET_2, SOLO
from data.class_lists import ClassList
from data.preprocess import pad_to_batch, preprocess
from model.backbone.mobilenetv3 import MobileNetV3
from model.decode.fast import best_candidates
from model.decode.fast_masks import CellMasks
from model.decode.fast_matrix_nms import matrix_nms
from model.head.towers import cell_scores, cells_in_rows, points_nms
from tests.support.parity import Fixture, match, needs_parity, picture, relative_errors
from tools.common.checkpoint import load_weights
from tools.common.kinds import build_network, kind_of
from tools.predict.postprocess import to_instances

pytestmark = needs_parity

# (model of the fixtures, our config, the tables of names it is converted with, recordings)
MODELS = (
    ("solo_solov2_r50_fpn_8gpu_3x", 0, (SOLO,), ("eval", "evalc")),
    ("solo_solov2_light_448_r50_fpn_8gpu_3x", 1, (SOLO,), ("eval", "evalc")),
    ("solo_solov2_light_448_r18_fpn_8gpu_3x", 3, (SOLO,), ("eval", "evalc")),
    ("solo_solov2_light_448_r34_fpn_8gpu_3x", 4, (SOLO,), ("eval", "evalc")),
    ("solo_solov2_light_512_dcn_r50_fpn_8gpu_3x", 5, (SOLO,), ("eval", "evalc")),
    ("solo_solov2_r101_dcn_fpn_8gpu_3x", 8, (SOLO,), ("eval", "evalc")),
    ("ppdet_solov2_r50_fpn_3x_coco", 0, (PPDET_2, PPDET_0_5), ("eval", "evalk")),
    ("ppdet_solov2_r50_enhance_coco", 11, (PPDET_2, PPDET_0_5), ("eval", "evalk")),
    ("ppdet05_solov2_r50_fpn_3x", 0, (PPDET_2, PPDET_0_5), ("evalk",)),
    ("ppdet05_solov2_light_r50_vd_fpn_dcn_512_3x", 2, (PPDET_2, PPDET_0_5), ("evalk",)),
    ("ppdet05_solov2_mobilenetv3_fpn_448_3x", 22, (PPDET_2, PPDET_0_5), ("evalk",)),
    ("solo_solo_r50_fpn_8gpu_3x", 13, (SOLO,), ("eval", "evalc")),
    ("solo_decoupled_solo_r50_fpn_8gpu_3x", 16, (SOLO,), ("eval", "evalc")),
    ("solo_decoupled_solo_light_r50_fpn_8gpu_3x", 18, (SOLO,), ("eval", "evalc")),
)
# One of each program and kind of network; `make parity` compares all of them.
FAST = {
    "solo_solov2_light_448_r18_fpn_8gpu_3x_eval",
    "solo_solov2_light_448_r18_fpn_8gpu_3x_evalc",
    "solo_solov2_light_512_dcn_r50_fpn_8gpu_3x_eval",
    "ppdet_solov2_r50_enhance_coco_evalk",
    "ppdet05_solov2_light_r50_vd_fpn_dcn_512_3x_evalk",
    "ppdet05_solov2_mobilenetv3_fpn_448_3x_evalk",
    "solo_decoupled_solo_light_r50_fpn_8gpu_3x_evalc",
}
RECORDINGS = [
    pytest.param(
        (f"{model}_{kind}", number, tables),
        id=f"{model}_{kind}",
        marks=() if f"{model}_{kind}" in FAST else (pytest.mark.slow,),
    )
    for model, number, tables, kinds in MODELS
    for kind in kinds
]
ON_THRESHOLD = 1e-5


@pytest.fixture(scope="module", params=RECORDINGS)
def computed(request):
    """Return recording, config and all stages that our network computes for its picture."""
    name, number, tables = request.param
    fixture = Fixture(name)
    config = load_config(number)
    weights, table = fill(network_shapes(config), fixture.checkpoint(), tables)
    # The recordings of 0.5's checkpoints were made by PaddleDetection 2.x, which cuts masks at the rounded size.
    config = load_config(config, [*table.overrides, "data.crop_masks=rounded"])
    network = build_network(config)
    load_weights(network, weights, path=name, config_name=config.name)
    network.eval()
    single = preprocess(picture(), config.data)
    batch = pad_to_batch([single], config.data.size_divisor)
    with paddle.no_grad():
        stem = paddle.to_tensor(batch)
        for layer in network.backbone.stem:
            stem = layer(stem)
        blocks = blocks_of(network.backbone, stem)
        maps = network.backbone(paddle.to_tensor(batch))
        pyramid = network.neck(maps)
        logits, of_masks = network.head(pyramid)
        scores = [points_nms(paddle.nn.functional.sigmoid(level)).transpose([0, 2, 3, 1]) for level in logits]
        raw, branches = PREDICTIONS[config.head.kind](network, pyramid, cell_scores(logits), of_masks)
    stages = {"input": batch if fixture.model.startswith("solo") else batch[0], "rgb": picture(), "stem": stem.numpy()}
    named = {"C": (maps, 2), "P": (pyramid, 2), **{name: (levels, 0) for name, levels in branches.items()}}
    named.update({"cate": (logits, 0), "cate_logit": (logits, 0), "cate_eval": (scores, 0), "cate_nms": (scores, 0)})
    if "mask_feat" in named:
        stages["mask_feat"] = named.pop("mask_feat")[0].numpy()
    stages.update(blocks)
    for prefix, (levels, first) in named.items():
        stages.update({f"{prefix}{index}": level.numpy() for index, level in enumerate(levels, start=first)})
    return fixture, config, stages, raw, single.shape[:2]


def blocks_of(backbone, stem) -> dict[str, np.ndarray]:
    """Return the output of each block of a MobileNetV3, by the names of its recording."""
    found = {}
    if isinstance(backbone, MobileNetV3):
        for number, block in enumerate(chain.from_iterable(backbone.stages), start=2):
            stem, _ = block(stem)
            found[f"block{number}"] = stem.numpy()
    return found


def of_solov2(network, pyramid, scores, kernels):
    """Return raw predictions by the names of the recordings."""
    mask_feats = network.mask_feat_head(pyramid)
    return (scores, cells_in_rows(kernels), mask_feats), {"kernel": kernels, "mask_feat": mask_feats}


def of_solo(network, pyramid, scores, mask_feats):
    logits = [layer(level[:, :-1]) for layer, level in zip(network.head.mask_preds, mask_feats)]
    return (scores, network.head.kernels(), *mask_feats), {"ins": logits}


def of_decoupled_solo(network, pyramid, scores, mask_logits):
    halves = [level.split(2, axis=1) for level in mask_logits]
    return (scores, *mask_logits), {"ins_x": [x for x, _ in halves], "ins_y": [y for _, y in halves]}


PREDICTIONS = {"solov2": of_solov2, "solo": of_solo, "decoupled_solo": of_decoupled_solo}


def test_stages(computed):
    fixture, config, stages, _, _ = computed
    compared = 0
    for stage in fixture.stages():
        ours = stages[stage]
        assert ours.shape == tuple(fixture.data[f"{stage}/shape"]), stage
        statistics = f"{stage}/stats"
        spread = fixture.data[statistics][1] if statistics in fixture.data else fixture.data[f"{stage}/std"]
        worst = relative_errors(fixture.data[f"{stage}/values"], ours, float(spread)).max()
        assert worst < (1e-3 if after_deformable_layer(stage, config) else 1e-4), stage
        compared += 1
    # Recordings with a bias vector contain other decisions of the same network, but no stages.
    assert compared >= 16 or "bias_vector" in fixture.data


def test_candidates_and_matrix_nms(computed):
    fixture, config, _, raw, _ = computed
    recorded = fixture.data
    scores = raw[0][0].numpy()
    above = (scores > config.nms.score_thr).sum(axis=1)
    levels = np.split(above, np.cumsum(np.square(config.head.num_grids))[:-1])
    if "candidates_per_level" in recorded:
        assert [int(level.sum()) for level in levels] == recorded["candidates_per_level"].tolist()
    else:
        # Points NMS compares neighbours for equality, and the hard-swish of MobileNetV3 differs in last digits.
        allowed = int(config.backbone.kind == "mobilenetv3")
        assert abs(above.sum() - len(recorded["cand/cell"])) <= allowed
    inputs = scores, masks_of(raw, config), config.head
    if "nms/n_after_area_filter" not in recorded:
        return  # PaddleDetection's recordings contain padding rows from here on
    everything = best_candidates(*inputs, replace(config.nms, nms_pre=10**6))
    assert len(everything.scores) == recorded["nms/n_after_area_filter"]
    found = best_candidates(*inputs, config.nms)
    np.testing.assert_allclose(found.scores, recorded["nms/pre_scores"], atol=2e-4)
    # Products with another number of rows are rounded differently, in float32 up to 1.1e-6 on some processors, so that
    # a pixel on the mask threshold may fall on either side, which moves the score of its mask by up to 3.4e-5.
    np.testing.assert_allclose(found.scores, everything.scores[: config.nms.nms_pre], rtol=1e-4)
    decayed = found.scores * matrix_nms(found.inside, found.areas, found.classes, config.nms)
    np.testing.assert_allclose(np.sort(decayed), np.sort(recorded["nms/decayed"]), atol=2e-4)


@pytest.mark.parametrize("decoder", ["fast", "plain"])
def test_instances(computed, decoder):
    fixture, config, _, raw, resized = computed
    if decoder == "fast":
        raw = [part.numpy() for part in raw]
    classes = ClassList(*[tuple(range(config.num_classes))] * 2)
    decoded = kind_of(config).decode(raw, 0, config)
    found = to_instances(decoded, config, classes, score=0.0, resized=resized, original=(480, 640))
    unmatched, extra = match(fixture, found)
    for row in unmatched:
        assert sits_on_threshold(fixture, row, raw, config)
        warnings.warn(f"{fixture.name}: recorded instance {row} sits on a threshold", stacklevel=1)
    # PaddleDetection writes a padding row over the hundredth instance, and a row on a threshold has a counterpart.
    padding_row = int(fixture.model.startswith("ppdet") and len(found) == config.nms.max_per_img)
    assert len(extra) <= len(unmatched) + padding_row


def after_deformable_layer(stage: str, config) -> bool:
    if config.backbone.deform_version:
        return stage not in ("rgb", "input", "stem", "C2")
    return stage == "mask_feat" and bool(config.mask_feat_head.deform_version)


def masks_of(raw, config) -> CellMasks:
    return kind_of(config).fast_masks([np.asarray(part) for part in raw[1:]], 0, config.head)


def sits_on_threshold(fixture: Fixture, row: int, raw, config) -> bool:
    """The recording's mask areas in this class differ from ours, and by pixels that are within 1e-5 of `mask_thr`.

    A pixel more or less in a mask changes its own score and, through their overlap, those of the masks it lowers.
    """
    class_id = fixture.final()[0][row]
    cells = np.flatnonzero(np.asarray(raw[0])[0, :, int(class_id)] > config.nms.score_thr)
    soft = masks_of(raw, config).probabilities(cells).reshape(len(cells), -1)
    undecided = (np.abs(soft - config.nms.mask_thr) < ON_THRESHOLD).sum(axis=1)
    recorded_classes, recorded_areas = fixture.areas_before_nms()
    recorded = set(recorded_areas[recorded_classes == class_id].tolist())
    areas = (soft > config.nms.mask_thr).sum(axis=1)
    return any(
        area not in recorded and any(area + d in recorded for d in range(-count, count + 1))
        for area, count in zip(areas.tolist(), undecided.tolist())
    )
