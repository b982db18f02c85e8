"""Decoding by both versions: cases made by hand, a dense re-implementation of the eight steps, and one against the
other."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock, patch

import numpy as np
import paddle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config.base import Config, HeadConfig, NMSConfig
from model.decode import fast, fast_masks
from model.decode.decoded import Decoded
from model.decode.fast import Candidates, best_candidates
from model.decode.fast_masks import KernelMasks
from tests.support.raw_predictions import RawPredictions
from tools.common.kinds import descriptor

NMS = NMSConfig()
HEAD = HeadConfig(num_grids=(2, 1), strides=(2, 5))  # cells 0 to 3 need more than 2 pixels, cell 4 more than 5
DISJOINT = ["###.........", "...###......", "......###...", ".........###", "############"]


def raw_predictions(scores, masks) -> RawPredictions:
    """Return a batch of one. scores: [cells][classes]; masks: a row of pixels for each cell, `#` where it is inside."""
    inside = np.array([[pixel == "#" for pixel in row] for row in masks])
    logits = np.where(inside, 20.0, -20.0).astype(np.float32)  # probabilities of 1 and 0
    return RawPredictions(
        scores=paddle.to_tensor(np.asarray(scores, np.float32)[None]),
        kernels=paddle.eye(len(masks)).unsqueeze(0),  # cell i takes feature i
        mask_feats=paddle.to_tensor(logits.reshape(1, len(masks), 3, -1)),
    )


def decode(raw: RawPredictions, index: int, head: HeadConfig, nms: NMSConfig, kind: str = "solov2") -> Decoded:
    """Decode by the fast version, after a comparison with the plain one."""
    config = Config().replace(head=head, nms=nms)
    decoded = descriptor(kind).decode([np.asarray(part) for part in raw], index, config)
    assert_equal(descriptor(kind).decode(raw, index, config), decoded)
    return decoded


def assert_equal(plain: Decoded, fast: Decoded) -> None:
    assert isinstance(plain.masks, paddle.Tensor) and isinstance(fast.masks, np.ndarray)
    assert plain.masks.shape == list(fast.masks.shape)
    np.testing.assert_array_equal(plain.classes, fast.classes)
    np.testing.assert_allclose(plain.scores, fast.scores, rtol=1e-4, atol=1e-6)
    if len(fast.scores):
        np.testing.assert_allclose(plain.masks.numpy(), fast.masks, atol=1e-5)


def found(decoded: Decoded) -> list[tuple[int, float, str]]:
    """Return (class, score, mask) of each instance, and check their types."""
    assert decoded.masks.dtype == np.float32
    assert decoded.scores.dtype == np.float32 and decoded.classes.dtype == np.int64
    count = decoded.scores.shape[0]
    assert decoded.masks.shape[0] == decoded.classes.shape[0] == count
    rows = decoded.masks.reshape(count, 12) > 0.5
    masks = ["".join("#" if pixel else "." for pixel in row) for row in rows]
    return [(c, round(s, 4), m) for c, s, m in zip(decoded.classes.tolist(), decoded.scores.tolist(), masks)]


def test_a_candidate_for_each_pair_above_the_threshold():
    scores = [[0.0, 0.9], [0.0, 0.0], [0.5, 0.0], [0.0999, 0.0], [0.0, 0.0]]
    assert found(decode(raw_predictions(scores, DISJOINT), 0, HEAD, NMS)) == [
        (1, 0.9, DISJOINT[0]),
        (0, 0.5, DISJOINT[2]),
    ]


@pytest.mark.parametrize(
    ("scores", "masks", "nms"),
    [
        (np.zeros((5, 2)), DISJOINT, NMS),
        (np.full((5, 2), 0.1), DISJOINT, NMS),  # not above the threshold
        (np.full((5, 2), 0.9), ["............"] * 5, NMS),
        (np.full((5, 2), 0.9), ["##.........."] * 4 + ["#####......."], NMS),  # not above the stride
        (np.full((5, 2), 0.9), DISJOINT, replace(NMS, update_thr=0.95)),
    ],
    ids=["no candidates", "on the threshold", "empty masks", "small masks", "all under update_thr"],
)
def test_nothing_is_an_ordinary_answer(scores, masks, nms):
    decoded = decode(raw_predictions(scores, masks), 0, HEAD, nms)
    assert found(decoded) == []
    assert decoded.masks.shape == (0, 3, 4)


def test_a_mask_must_be_larger_than_the_stride_of_its_level():
    masks = ["##..........", "###.........", "............", "............", "######......"]
    areas = [mask.count("#") for _, _, mask in found(decode(raw_predictions(np.eye(5), masks), 0, HEAD, NMS))]
    assert sorted(areas) == [3, 6]


def test_the_score_is_multiplied_with_the_mean_probability_inside():
    raw = raw_predictions([[0.8]] * 5, DISJOINT)
    log_odds = float(np.log(0.75 / 0.25))
    raw = raw._replace(mask_feats=raw.mask_feats.clip(max=log_odds))
    scores = decode(raw, 0, HEAD, replace(NMS, update_thr=0.0)).scores
    assert scores.max().item() == pytest.approx(0.8 * 0.75, abs=1e-5)


def test_classes_of_one_cell_share_its_mask_and_do_not_meet():
    scores = [[0.4, 0.9, 0.6], [0.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3]
    mask = DISJOINT[0]
    expected = [(1, 0.9, mask), (2, 0.6, mask), (0, 0.4, mask)]
    assert found(decode(raw_predictions(scores, DISJOINT), 0, HEAD, NMS)) == expected


def test_a_duplicate_is_lowered():
    masks = [DISJOINT[0], DISJOINT[0], *DISJOINT[2:]]
    raw = raw_predictions([[0.8], [0.9], [0.0], [0.0], [0.0]], masks)
    lowered = round(0.8 * float(np.exp(-2)), 4)
    assert found(decode(raw, 0, HEAD, NMS)) == [(0, 0.9, masks[0]), (0, lowered, masks[0])]
    assert len(found(decode(raw, 0, HEAD, replace(NMS, update_thr=0.2)))) == 1


@pytest.mark.parametrize("limits", [{"max_per_img": 3}, {"nms_pre": 3}])
def test_the_best_are_kept_where_there_are_too_many(limits):
    scores = [[0.5], [0.9], [0.3], [0.7], [0.0]]
    kept = found(decode(raw_predictions(scores, DISJOINT), 0, HEAD, replace(NMS, **limits)))
    assert kept == [(0, 0.9, DISJOINT[1]), (0, 0.7, DISJOINT[3]), (0, 0.5, DISJOINT[0])]


def test_nms_pre_counts_before_max_per_img_after():
    masks = [DISJOINT[0], DISJOINT[0], *DISJOINT[2:]]
    raw = raw_predictions([[0.9], [0.8], [0.7], [0.0], [0.0]], masks)
    assert [mask for _, _, mask in found(decode(raw, 0, HEAD, replace(NMS, nms_pre=2)))] == masks[:2]
    assert [mask for _, _, mask in found(decode(raw, 0, HEAD, replace(NMS, max_per_img=2)))] == [masks[0], masks[2]]


def dense(raw: RawPredictions, index: int, head: HeadConfig, nms: NMSConfig) -> list[tuple[int, int, float]]:
    """Return (class, cell, score), highest score first, computed over all cells and pairs in float64.

    Examples in which a comparison depends on rounding are rejected.
    """
    scores, kernels, feats = (part[index].numpy().astype(np.float64) for part in raw)
    strides = np.concatenate([np.full(grid**2, stride) for grid, stride in zip(head.num_grids, head.strides)])
    cells, classes = np.nonzero(scores > nms.score_thr)
    soft = 1 / (1 + np.exp(-(kernels @ feats.reshape(len(feats), -1))))
    assume((np.abs(soft[cells] - nms.mask_thr) > 1e-5).all())
    masks = soft > nms.mask_thr
    large = masks[cells].sum(axis=1) > strides[cells]
    cells, classes = cells[large], classes[large]
    certainty = (soft * masks)[cells].sum(axis=1) / masks[cells].sum(axis=1)
    values = scores[cells, classes] * certainty
    assume(apart(values))
    order = np.argsort(-values)[: nms.nms_pre]
    cells, classes, values = cells[order], classes[order], values[order]
    values = values * paper_decay(masks[cells], classes, nms)
    assume(apart(np.append(values[values > 1e-6], nms.update_thr)))
    order = [row for row in np.argsort(-values) if values[row] >= nms.update_thr][: nms.max_per_img]
    return [(classes[row], cells[row], values[row]) for row in order]


def apart(values: np.ndarray) -> bool:
    return bool((np.diff(np.sort(values)) > 1e-6).all())


def paper_decay(masks: np.ndarray, classes: np.ndarray, nms: NMSConfig) -> np.ndarray:
    if not len(masks):
        return np.ones(0)
    intersection = masks.astype(float) @ masks.T
    areas = masks.sum(axis=1)
    iou = np.triu(intersection / (areas[:, None] + areas - intersection) * (classes[:, None] == classes), k=1)
    compensation = iou.max(axis=0)[:, None]
    if nms.kernel == "gaussian":
        return np.exp(-nms.sigma * (iou**2 - compensation**2)).min(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nanmin((1 - iou) / (1 - compensation), axis=0)


def random_batch(seed: int, *, head: HeadConfig, size: int, busy: float) -> RawPredictions:
    """Return predictions with many similar cells, whose masks overlap. busy: the share of candidates."""
    random = np.random.default_rng(seed)
    cells = sum(grid**2 for grid in head.num_grids)
    scores = random.random((size, cells, 2)) * (random.random((size, cells, 2)) < busy)
    templates = random.normal(size=(size, 4, 6))
    noise = random.normal(scale=random.choice([0.01, 0.5]), size=(size, cells, 6))
    kernels = np.take_along_axis(templates, random.integers(0, 4, (size, cells, 1)), axis=1) + noise
    feats = random.normal(size=(size, 6, 5, 7))
    return RawPredictions(*(paddle.to_tensor(part.astype(np.float32)) for part in (scores, kernels, feats)))


@settings(max_examples=100)
@given(
    head=st.sampled_from([HeadConfig(num_grids=(3, 2), strides=(8, 16)), HeadConfig(num_grids=(9, 5), strides=(0, 4))]),
    nms=st.builds(
        NMSConfig,
        score_thr=st.sampled_from([0.1, 0.4]),
        mask_thr=st.sampled_from([0.5, 0.3]),
        nms_pre=st.sampled_from([5, 500]),
        kernel=st.sampled_from(["gaussian", "linear"]),
        update_thr=st.sampled_from([0.05, 0.3]),
        max_per_img=st.sampled_from([1, 4, 100]),
    ),
    busy=st.sampled_from([0.1, 0.7]),
    sizes=st.sampled_from([(1, 1), (2, 10), (fast.BLOCK, fast_masks.NARROWEST_TILE)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_dense_steps(head, nms, busy, sizes, seed):
    raw = random_batch(seed, head=head, size=1, busy=busy)
    expected = dense(raw, 0, head, nms)
    block = patch.object(fast, "BLOCK", sizes[0])
    with block, patch.multiple(fast_masks, TILE_SIZE=1, NARROWEST_TILE=sizes[1]):
        decoded = decode(raw, 0, head, nms)
    assert decoded.classes.tolist() == [class_id for class_id, _, _ in expected]
    np.testing.assert_allclose(decoded.scores, [score for _, _, score in expected], rtol=1e-4, atol=1e-6)
    cells = [cell for _, cell, _ in expected]
    logits = raw.kernels[0].numpy()[cells] @ raw.mask_feats[0].flatten(start_axis=1).numpy()
    probabilities = (1 / (1 + np.exp(-logits))).reshape(-1, 5, 7)
    np.testing.assert_allclose(decoded.masks, probabilities, atol=1e-5)


def tied_parts(kind: str, random: np.random.Generator, grids: tuple[int, ...]) -> list[np.ndarray]:
    """Raw predictions after the scores whose probabilities are exactly 0 or 1, with few different masks."""
    cells, size = sum(grid**2 for grid in grids), (4, 6)
    if kind == "decoupled_solo":
        return [40.0 * (random.random((1, 2 * grid, *size)) < 0.8) - 20 for grid in grids]
    templates = np.eye(3)[random.integers(0, 3, cells)]
    feats = [40.0 * (random.random((1, 3, *size)) < 0.6) - 20 for _ in grids]
    return [templates[None], feats[0]] if kind == "solov2" else [templates, *feats]


def equal_or_apart(scores: np.ndarray) -> bool:
    """Return whether no two scores differ by rounding alone, as fractions of the same value may."""
    steps = -np.diff(scores)
    return bool(((steps == 0) | (steps > 1e-6)).all())


@settings(max_examples=200)
@given(
    kind=st.sampled_from(["solov2", "solo", "decoupled_solo"]),
    values=st.sampled_from([(0.0,), (0.05, 0.1), (0.0, 0.5), (0.0, 0.3, 0.6)]),
    nms_kernel=st.sampled_from(["gaussian", "linear"]),
    nms_pre=st.sampled_from([1, 5, 500]),
    update_thr=st.sampled_from([0.0, 0.05, 0.3]),
    max_per_img=st.sampled_from([1, 4, 100]),
    block=st.sampled_from([1, 256]),
    seed=st.integers(0, 2**32 - 1),
)
def test_ties_and_empty_results_are_the_same_in_both_versions(
    kind, values, nms_kernel, nms_pre, update_thr, max_per_img, block, seed
):
    """Equal candidates are exactly equal in both versions, so that their order decides."""
    random = np.random.default_rng(seed)
    head = HeadConfig(kind=kind, num_grids=(4, 3), strides=(3, 8))
    scores = random.choice(values, (1, 25, 2))
    raw = [paddle.to_tensor(part.astype(np.float32)) for part in (scores, *tied_parts(kind, random, head.num_grids))]
    nms = NMSConfig(kernel=nms_kernel, nms_pre=nms_pre, update_thr=update_thr, max_per_img=max_per_img)
    limits = replace(nms, update_thr=0.0, max_per_img=10**6)
    config = Config().replace(head=head, nms=limits)
    for version in (raw, [part.numpy() for part in raw]):
        assume(equal_or_apart(descriptor(kind).decode(version, 0, config).scores))
    with patch.object(fast, "BLOCK", block):
        decoded = decode(raw, 0, head, nms, kind)
    if max(values) <= nms.score_thr:
        assert len(decoded.scores) == 0


@settings(max_examples=60)
@given(
    score=st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
    certain=st.booleans(),
    nms_pre=st.sampled_from([5, 500]),
    seed=st.integers(0, 2**32 - 1),
)
def test_cells_below_a_score_change_no_instance_above_it(score, certain, nms_pre, seed):
    """Some scores are exactly the limit, and some masks certain, so that an instance has the score of its cell."""
    raw = random_batch(seed, head=HeadConfig(num_grids=(6, 4), strides=(0, 4)), size=1, busy=0.7)
    scores = paddle.where(raw.scores < 0.2, raw.scores * 0 + score, raw.scores)
    raw = raw._replace(scores=scores, kernels=raw.kernels * (100 if certain else 1))
    config = Config().replace(head=HeadConfig(num_grids=(6, 4), strides=(0, 4)), nms=replace(NMS, nms_pre=nms_pre))
    kind = descriptor("solov2")
    for version in (raw, [part.numpy() for part in raw]):
        everything = kind.decode(version, 0, config)
        above = everything.scores >= score
        found = kind.decode(version, 0, kind.for_scores_from(score, config))
        kept = found.scores >= score
        np.testing.assert_allclose(found.scores[kept], everything.scores[above], rtol=1e-6)
        np.testing.assert_array_equal(found.classes[kept], everything.classes[above])
        masks = (np.asarray(decoded.masks)[: int(above.sum())] for decoded in (found, everything))
        np.testing.assert_allclose(*masks, atol=1e-5)


def looked_at(inside: Mock) -> list[int]:
    """Cells whose masks were computed."""
    return np.concatenate([call.args[0] for call in inside.call_args_list]).tolist()


@patch.object(fast, "BLOCK", 2)
def test_masks_that_cannot_be_among_the_best_are_not_computed():
    head = HeadConfig(num_grids=(9, 5), strides=(0, 4))
    raw = random_batch(0, head=head, size=1, busy=0.9)
    masks = descriptor("solov2").fast_masks([part.numpy() for part in raw[1:]], 0, head)
    with patch.object(masks, "inside", wraps=masks.inside) as inside:
        few = best_candidates(raw.scores[0].numpy(), masks, head, replace(NMS, nms_pre=5))
        assert len(looked_at(inside)) < 50
        everything = best_candidates(raw.scores[0].numpy(), masks, head, replace(NMS, nms_pre=500))
        assert len(looked_at(inside)) > 90
    for column in Candidates._fields:  # products with another number of rows are rounded differently
        rtol = 1e-5 if column == "scores" else 0
        np.testing.assert_allclose(getattr(few, column), getattr(everything, column)[:5], rtol=rtol)


@patch.object(fast, "BLOCK", 10)
def test_masks_that_are_too_uncertain_to_be_among_the_best_are_not_computed():
    head = HeadConfig(num_grids=(10,), strides=(4,))
    logits = np.linspace(0.1, 4, 100, dtype=np.float32)
    scores = (0.5 - logits / 100)[:, None]  # in the opposite order
    masks = KernelMasks(logits.reshape(100, 1), np.ones((1, 64, 64), np.float32))
    with patch.object(masks, "inside", wraps=masks.inside) as inside:
        found = best_candidates(scores, masks, head, replace(NMS, score_thr=0.1, nms_pre=20))
    expected = scores[:, 0] / (1 + np.exp(-logits))
    assert found.cells.tolist() == np.argsort(-expected)[:20].tolist()
    assert 20 <= len(looked_at(inside)) <= 85


@settings(max_examples=10)
@given(size=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
def test_a_picture_of_a_batch_decodes_as_it_does_alone(size, seed):
    head = HeadConfig(num_grids=(4, 2), strides=(2, 4))
    raw = random_batch(seed, head=head, size=size, busy=0.3)
    for index in range(size):
        alone = RawPredictions(*(part[index : index + 1] for part in raw))
        for ours, single in zip(decode(raw, index, head, NMS), decode(alone, 0, head, NMS)):
            assert np.array_equal(np.asarray(ours), np.asarray(single))
