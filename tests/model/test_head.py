"""The heads, the mask feature branch, and the whole network on all kinds of batches."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from config import load_config
from config.base import Config
from data.preprocess import pad_to_batch
from model.head.mask_feat import MaskFeatHead
from model.head.solov2 import SOLOv2Head
from model.head.towers import cell_scores, cells_in_rows, points_nms
from model.layers import DeformConv2D
from model.solov2 import SOLOv2
from tests.support import tiny
from tests.support.raw_predictions import RawPredictions
from tools.common.kinds import build_network

CELLS = 12**2 + 10**2 + 8**2 + 6**2 + 4**2  # of the tiny network


def tiny_config(*overrides: str) -> Config:
    return load_config(tiny.CONFIG, [*tiny.OVERRIDES, *overrides])


@pytest.fixture(scope="module")
def network() -> SOLOv2:
    paddle.seed(0)
    network = build_network(tiny_config())
    network.eval()
    return network


def run(network: SOLOv2, images: np.ndarray) -> RawPredictions:
    with paddle.no_grad():
        return RawPredictions(*(part.numpy() for part in network(paddle.to_tensor(images))))


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, height, width)).astype(np.float32)


def assert_equal(ours: RawPredictions, others: RawPredictions) -> None:
    """Compare up to rounding; of nearly equal neighbouring scores either one may be suppressed."""
    np.testing.assert_allclose(ours.kernels, others.kernels, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(ours.mask_feats, others.mask_feats, rtol=1e-3, atol=1e-4)
    same = np.isclose(ours.scores, others.scores, rtol=1e-4, atol=1e-7)
    assert same.mean() > 0.99


class TestPointsNMS:
    def test_a_cell_yields_to_its_neighbours_above_and_to_the_left_only(self):
        scores = paddle.to_tensor([[[[2.0, 1.0, 3.0], [1.0, 4.0, 3.0], [5.0, 4.0, 1.0]]]])
        # The 2 ignores the 4 below it on the right; the lower 3 yields to the 4 on its left, the lower 4 to the 5.
        assert points_nms(scores)[0, 0].tolist() == [[2, 0, 3], [0, 4, 0], [5, 0, 0]]

    def test_ties_survive(self):
        scores = paddle.full([1, 2, 3, 3], 0.25)
        assert (points_nms(scores) == scores).all()

    @settings(max_examples=50)
    @given(arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=4), elements=st.sampled_from([0, 0.25, 1])))
    def test_equals_the_definition(self, scores):
        expected = np.zeros_like(scores)
        for n, c, y, x in np.ndindex(scores.shape):
            neighbourhood = scores[n, c, max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1]
            expected[n, c, y, x] = scores[n, c, y, x] if scores[n, c, y, x] == neighbourhood.max() else 0
        assert (points_nms(paddle.to_tensor(scores)).numpy() == expected).all()


def test_cells_of_all_levels_are_in_row_major_order():
    grids = (3, 2)
    levels = [paddle.arange(2 * 4 * s * s, dtype="float32").reshape([2, 4, s, s]) + 1000 * s for s in grids]
    rows = cells_in_rows(levels)
    assert rows.shape == [2, 9 + 4, 4]
    assert (rows[1, 2 * 3 + 1] == levels[0][1, :, 2, 1]).all()
    assert (rows[1, 9 + 1 * 2 + 0] == levels[1][1, :, 1, 0]).all()


def test_scores_are_probabilities_of_cells_that_won():
    logits = [paddle.to_tensor([[[[1.0, 0.0], [2.0, 3.0]]]])]
    np.testing.assert_allclose(cell_scores(logits)[0, :, 0].numpy(), [0.7311, 0, 0.8808, 0.9526], atol=1e-4)


def test_a_fresh_head_expects_an_object_in_a_hundredth_of_the_cells(network):
    scores = run(network, pictures(1, 64, 64)).scores
    assert np.median(scores[scores > 0]) == pytest.approx(0.01, rel=0.5)


def test_the_category_branch_does_not_see_the_coordinates():
    config = tiny_config().head
    head = SOLOv2Head(32, 16, 5, config)
    head.eval()
    pyramid = [paddle.ones([1, 32, side, side]) for side in (32, 16, 8, 4, 2)]
    cate_logits, kernels = head(pyramid)
    # The features are constant, and so are all maps made of them, except near the border.
    middle = [level[0, :, 2:-2, 2:-2].numpy() for level in (cate_logits[0], kernels[0])]
    spread = [np.ptp(part, axis=(1, 2)).max() for part in middle]
    assert spread[0] < 1e-5 < 1e-3 < spread[1]


@pytest.mark.parametrize(("deform_all", "deformable"), [("false", {"cate_convs.2", "kernel_convs.2"}), ("true", None)])
def test_the_last_or_all_tower_convolutions_are_deformable(deform_all, deformable):
    config = tiny_config("head.stacked_convs=3", "head.deform_version=1", f"head.deform_all={deform_all}").head
    head = SOLOv2Head(32, 16, 5, config)
    names = {name.rpartition(".")[0] for name, layer in head.named_sublayers() if isinstance(layer, DeformConv2D)}
    assert names == (deformable or {f"{tower}_convs.{i}" for tower in ("cate", "kernel") for i in range(3)})


def test_mask_features_have_the_size_of_the_first_level():
    config = tiny_config("mask_feat_head.deform_version=2").mask_feat_head
    branch = MaskFeatHead(16, config)
    pyramid = [paddle.rand([2, 16, 24 // 2**i, 16 // 2**i]) for i in range(4)]
    feats = branch([*pyramid, None])  # P6 plays no part
    assert feats.shape == [2, 32, 24, 16]
    assert (feats >= 0).all()


@settings(max_examples=10)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), count=st.integers(1, 2))
def test_any_size_divisible_by_32_works(network, rows, columns, count):
    raw = run(network, pictures(count, 32 * rows, 32 * columns))
    assert raw.scores.shape == (count, CELLS, 80)
    assert raw.kernels.shape == (count, CELLS, 32)
    assert raw.mask_feats.shape == (count, 32, 8 * rows, 8 * columns)
    assert all(np.isfinite(part).all() for part in raw)


def test_a_batch_equals_its_pictures_one_by_one(network):
    images = pictures(3, 64, 96)
    together = run(network, images)
    for index in range(3):
        alone = run(network, images[index : index + 1])
        assert_equal(RawPredictions(*(part[index : index + 1] for part in together)), alone)


def test_pictures_of_different_sizes_share_a_batch(network):
    images = [image.transpose(1, 2, 0) for image in (*pictures(1, 50, 90), *pictures(1, 64, 33, 1))]
    together = run(network, pad_to_batch(images, 32))
    for index, image in enumerate(images):
        padded = np.zeros((1, 3, 64, 96), np.float32)
        padded[0, :, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        assert_equal(RawPredictions(*(part[index : index + 1] for part in together)), run(network, padded))


def test_training_equals_evaluation_without_drop_block(network):
    images = pictures(2, 64, 64)
    evaluation = run(network, images)
    network.train()
    training = run(network, images)
    network.eval()
    assert all(np.array_equal(a, b) for a, b in zip(training, evaluation))


def test_drop_block_acts_on_both_branches_in_training_only():
    paddle.seed(0)
    network = build_network(tiny_config("head.drop_block=true"))
    images = pictures(1, 64, 64)
    network.train()
    first, second = run(network, images), run(network, images)
    assert (first.scores != second.scores).any() and (first.kernels != second.kernels).any()
    assert (first.mask_feats == second.mask_feats).all()
    network.eval()
    assert all(np.array_equal(a, b) for a, b in zip(run(network, images), run(network, images)))


@pytest.mark.filterwarnings("ignore")  # of Paddle about itself
@pytest.mark.parametrize("deform_version", [0, 2])
def test_the_network_is_a_static_graph(deform_version):
    """No branch up to the raw predictions depends on the data; batch size and picture size stay variable."""
    overrides = [f"{section}.deform_version={deform_version}" for section in ("head", "mask_feat_head")]
    network = build_network(tiny_config(*overrides))
    network.eval()
    images = {1: pictures(1, 64, 96, seed=1), 3: pictures(3, 96, 32, seed=3)}
    expected = {count: run(network, batch) for count, batch in images.items()}
    spec = paddle.static.InputSpec([None, 3, None, None], "float32")
    static = paddle.jit.to_static(network, input_spec=[spec], full_graph=True)
    for count, batch in images.items():
        assert_equal(run(static, batch), expected[count])
