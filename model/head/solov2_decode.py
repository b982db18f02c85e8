"""From SOLOv2's raw predictions to instances (Wang et al. 2020, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Callable, NamedTuple

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import HeadConfig, NMSConfig
from model.matrix_nms import matrix_nms
from model.solov2 import RawPredictions

BLOCK = 256  # cells looked at together, between two looks at whether more are needed
TILE_ON_CPU = 2048  # pixels computed together, so that what is made of them stays in a processor's cache
HUGE = 3e38  # makes 1 or more of each float above 0


class Decoded(NamedTuple):
    """The n instances of one picture in descending order of score; n may be 0."""

    soft_masks: Tensor  # float32 [n, h, w] probability of each pixel, at a quarter of the padded input's size
    scores: np.ndarray  # float32 [n]
    classes: np.ndarray  # int64 [n] counted from 0


class Candidates(NamedTuple):
    """The best (cell, class) pairs, in descending order of score."""

    cells: np.ndarray  # int64 [n] index of the cell among all cells
    classes: np.ndarray  # int64 [n]
    scores: np.ndarray  # float32 [n]
    areas: np.ndarray  # float32 [n] pixels inside
    masks: Tensor  # uint8 [m, pixels], one for each cell looked at: a cell has one mask, whatever its classes
    rows: np.ndarray  # int64 [n] into `masks`


@paddle.no_grad()
def decode(
    raw: RawPredictions, index: int, head: HeadConfig, nms: NMSConfig, parallel: Callable[..., Iterable] = map
) -> Decoded:
    """The instances of picture `index` of a batch; parallel: `map`, or that of a pool of threads.

    In the order of the original SOLO: threshold on the category score, masks, area filter, score times mean
    probability inside the mask, the best `nms_pre`, Matrix NMS, `update_thr`, the best `max_per_img`.
    """
    kernels, size = raw.kernels[index], raw.mask_feats.shape[2:]
    feats = raw.mask_feats[index].flatten(start_axis=1)  # [D, pixels]
    found = best_candidates(raw.scores[index], kernels, feats, head, nms, parallel)
    scores = matrix_nms(found.scores, found.classes, found.masks, found.rows, found.areas, nms, parallel)
    kept = np.argsort(-scores, kind="stable")[: nms.max_per_img]
    kept = kept[scores[kept] >= nms.update_thr]
    if not len(kept):
        return Decoded(paddle.zeros([0, *size]), scores[kept], found.classes[kept])
    soft_masks = F.sigmoid(kernels.gather(paddle.to_tensor(found.cells[kept])) @ feats)
    return Decoded(soft_masks.reshape([-1, *size]), scores[kept], found.classes[kept])


def best_candidates(
    scores: Tensor,
    kernels: Tensor,
    feats: Tensor,
    head: HeadConfig,
    nms: NMSConfig,
    parallel: Callable[..., Iterable] = map,
) -> Candidates:
    """The `nms_pre` best candidates. scores: [cells, classes]; kernels: [cells, D]; feats: [D, pixels].

    A candidate's score is its category score times a mean probability, so it is never above its category score. Cells
    are looked at in descending order of their best category score, and once there are `nms_pre` candidates above what
    is still to come, the masks of the other cells are not computed: there may be thousands of them.
    """
    pairs = paddle.nonzero(scores > nms.score_thr)
    values = scores.gather_nd(pairs).numpy() if len(pairs) else np.zeros(0, np.float32)
    cells, classes = pairs.numpy().reshape(-1, 2).T
    smallest = np.repeat(head.strides, np.square(head.num_grids))  # area in pixels that a mask must exceed
    best_of_cell = np.zeros(len(smallest), np.float32)
    np.maximum.at(best_of_cell, cells, values)
    order = np.argsort(-best_of_cell, kind="stable")[: len(np.unique(cells))]
    areas, certainty = np.zeros((2, len(smallest)), np.float32)  # of the cells looked at so far
    masks = []
    tile = TILE_ON_CPU if feats.place.is_cpu_place() else feats.shape[1]
    tiles = [feats[:, start : start + tile] for start in range(0, feats.shape[1], tile)]
    for start in range(0, len(order), BLOCK):
        chosen, rest = order[start : start + BLOCK], order[start + BLOCK :]
        work = partial(_masks_in_tile, kernels.gather(paddle.to_tensor(chosen)), threshold=nms.mask_thr)
        inside, counts, sums = zip(*parallel(work, tiles))
        masks.append(paddle.concat(inside, axis=1))
        areas[chosen] = np.sum(counts, axis=0)
        large = areas[chosen] > smallest[chosen]
        certainty[chosen] = np.where(large, np.sum(sums, axis=0) / np.maximum(areas[chosen], 1), 0)
        if len(rest) and (values * certainty[cells] > best_of_cell[rest[0]]).sum() >= nms.nms_pre:
            break
    scored = values * certainty[cells]
    best = np.argsort(-scored, kind="stable")[: nms.nms_pre]
    best = best[scored[best] > 0]
    place = np.zeros(len(smallest), np.int64)
    place[order] = np.arange(len(order))
    return Candidates(
        cells=cells[best],
        classes=classes[best],
        scores=scored[best],
        areas=areas[cells[best]],
        masks=paddle.concat(masks) if masks else paddle.zeros([0, feats.shape[1]], dtype="uint8"),
        rows=place[cells[best]],
    )


def _masks_in_tile(kernels: Tensor, feats: Tensor, threshold: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The dynamic 1x1 convolution, a matrix product: masks uint8 [m, pixels], their areas [m], sums inside [m].

    The sums are of probabilities, p = (1 + tanh(x / 2)) / 2 of a logit x. Everything is made from how far x / 2 is
    above the threshold, 0 where it is not, in few passes over the pixels.
    """
    cut = math.log(threshold / (1 - threshold)) / 2  # of x / 2
    halves = (kernels * 0.5) @ feats
    above = F.relu(halves - cut if cut else halves)
    inside = paddle.clip(above * HUGE, max=1.0)
    ones = paddle.ones([feats.shape[1]])  # sums as products: Paddle's reduction takes four times as long on a CPU
    areas = (inside @ ones).numpy()
    tanhs = (paddle.tanh(above + cut if cut else above) @ ones).numpy() - (feats.shape[1] - areas) * math.tanh(cut)
    return inside.astype("uint8"), areas, (areas + tanhs) / 2
