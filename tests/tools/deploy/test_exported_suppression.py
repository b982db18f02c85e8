"""Suppression of boxes in an exported graph, which other programs run, is the greedy one to the last box."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from paddle import Tensor, nn

from model.decode import plain_boxes
from model.decode.fast_boxes import suppress
from tests.support.boxes import MOST, entering_boxes
from tests.support.exports import needs_onnx
from tools.engine.compiled import LOADERS
from tools.engine.graph import Graph
from tools.engine.graph_writer import write_graph

IOU_THR, KEPT = 0.5, 8


class Suppression(nn.Layer):
    """The suppression with a weight, because Paddle loads no graph without one."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, boxes: Tensor, products: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        found = plain_boxes.BoxCandidates(boxes, products * self.one, classes)
        return plain_boxes.suppress(found, iou_thr=IOU_THR, limit=KEPT)


@pytest.fixture(scope="module", params=["static", pytest.param("onnx", marks=needs_onnx)])
def suppression(request, tmp_path_factory) -> Graph:
    """Return the graph of the suppression of MOST candidates."""
    path = tmp_path_factory.mktemp("suppression") / "graph"
    specs = [
        paddle.static.InputSpec([MOST, *more], dtype, name)
        for more, dtype, name in (((4,), "float32", "boxes"), ((), "float32", "products"), ((), "int64", "classes"))
    ]
    write_graph(Suppression(), specs, path, portable=request.param == "onnx")
    return LOADERS[request.param](path, "fp32")


@settings(max_examples=300)
@given(boxes=entering_boxes())
def test_the_graph_keeps_the_boxes_of_greedy_suppression(suppression, boxes):
    missing = MOST - len(boxes.scores)
    padded = [np.pad(part, [(0, missing), *[(0, 0)] * (part.ndim - 1)]) for part in boxes]
    padded[1][len(boxes.scores) :] = plain_boxes.EMPTY
    kept, products = (np.asarray(part) for part in suppression(padded))
    expected = suppress(boxes, iou_thr=IOU_THR, limit=KEPT)
    np.testing.assert_array_equal(kept[products > plain_boxes.EMPTY], expected)
    np.testing.assert_array_equal(products[: len(expected)], boxes.scores[expected])
