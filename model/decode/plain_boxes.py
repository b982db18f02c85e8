"""The plain decoder of CenterMask2 (Lee and Park 2020): boxes by FCOS, box NMS, RoIAlign and masks, in Paddle tensors.

No branch depends on the data: the numbers of candidates and instances are fixed, and the last ones may be empty.
`exported.py` makes a graph of it. `fast_boxes.py` and `model/head/roi_align.py` compute only what is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional as F
from paddle.vision.ops import roi_align

from config.base import Config, NMSConfig
from config.networks import BOX_STRIDES, level_sizes
from model.resize import shape_of

EMPTY = -1.0  # the product where there is no box: less than any probability


class BoxCandidates(NamedTuple):
    """m boxes that enter the suppression, some of which may be empty."""

    boxes: Tensor  # float32 [m, 4], x1, y1, x2, y2 in pixels of the network's input
    products: Tensor  # float32 [m], probability times centerness, or EMPTY
    classes: Tensor  # int64 [m]


class BoxInstances(NamedTuple):
    """n = nms.max_per_img instances, sorted by box score, highest first; after the first `count` all values are 0."""

    masks: Tensor  # float32 [n, 2 size, 2 size], the probability that a cell of the box is inside
    scores: Tensor  # float32 [n], box score times the estimated IoU of the mask
    classes: Tensor  # int64 [n]
    count: Tensor  # int64 [1]
    boxes: Tensor  # float32 [n, 4], cut off at the sides of the picture
    box_scores: Tensor  # float32 [n], geometric mean of probability and centerness


def decode(
    raw: Sequence[Tensor],
    size: tuple[Tensor, Tensor],
    roi_head: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    config: Config,
) -> BoxInstances:
    """Decode a batch of one. raw: as of `CenterMask2.forward`; size: height and width of the picture, float32 []."""
    probabilities, centerness, distances, p3, p4, p5 = raw
    sizes = level_sizes(*(BOX_STRIDES[0] * side for side in shape_of(p3)[2:]))
    candidates = find_candidates(probabilities[0], centerness[0], distances[0], sizes, config.nms)
    kept, products = suppress(candidates, iou_thr=config.nms.iou_thr, limit=config.nms.max_per_img)
    present = products > EMPTY
    boxes = candidates.boxes.gather(kept) * present.astype("float32").unsqueeze(1)
    classes = candidates.classes.gather(kept) * present.astype("int64")
    logits, ious = roi_head(box_features((p3, p4, p5), boxes, size, side=config.roi.size), classes)
    masks = F.sigmoid(logits) * present.astype("float32").reshape([-1, 1, 1])
    box_scores = paddle.sqrt(F.relu(products))
    boxes = paddle.minimum(F.relu(boxes), paddle.stack([size[1], size[0]] * 2))
    count = present.astype("int64").sum().reshape([1])
    return BoxInstances(masks, box_scores * ious, classes, count, boxes, box_scores)


def find_candidates(
    probabilities: Tensor, centerness: Tensor, distances: Tensor, sizes: Sequence[Sequence], nms: NMSConfig
) -> BoxCandidates:
    """Return the `nms_pre` best boxes of each level; arguments as of `fast_boxes.decode_boxes`, sizes may be
    tensors."""
    classes = probabilities.shape[1]
    products = probabilities * centerness.unsqueeze(1)
    products = paddle.where(probabilities > nms.score_thr, products, paddle.full_like(products, EMPTY))
    padding = paddle.full([nms.nms_pre], EMPTY)  # small levels have fewer
    levels, first = [], 0
    for (height, width), stride in zip(sizes, BOX_STRIDES):
        count = height * width
        best, pairs = paddle.topk(paddle.concat([products[first : first + count].flatten(), padding]), nms.nms_pre)
        cells = (pairs // classes).clip(max=count - 1)
        places = paddle.stack([cells % width, cells // width], axis=1).astype("float32") * stride + stride // 2
        reach = distances.gather(cells + first) * stride
        boxes = paddle.concat([places - reach[:, :2], places + reach[:, 2:]], axis=1)
        levels.append(BoxCandidates(boxes, best, pairs % classes))
        first = first + count
    return BoxCandidates(*map(paddle.concat, zip(*levels)))


def suppress(candidates: BoxCandidates, *, iou_thr: float, limit: int) -> tuple[Tensor, Tensor]:
    """Choose `limit` boxes, best first, that no better one of their class overlaps by more than `iou_thr`.

    Returns their places, int64 [limit], and products, float32 [limit], EMPTY where no box is left. Of equal boxes the
    first is the better one.
    """
    low, high = paddle.split(candidates.boxes.t(), 2)  # [2, m]
    areas, left = areas_of(candidates.boxes), candidates.products
    order, empty = paddle.arange(left.shape[0]), paddle.full_like(left, EMPTY)
    kept, products = [], []
    for _ in range(limit):
        best = left.argmax(keepdim=True)  # [1]
        kept.append(best)
        products.append(left.gather(best))
        sides = paddle.minimum(high, high.gather(best, axis=1)) - paddle.maximum(low, low.gather(best, axis=1))
        shared = F.relu(sides).prod(axis=0)
        union = areas + areas.gather(best) - shared
        same = candidates.classes == candidates.classes.gather(best)
        rivals = (shared / union.clip(min=1e-12) > iou_thr).logical_and(same)
        left = paddle.where(rivals.logical_or(order == best), empty, left)
    return paddle.concat(kept), paddle.concat(products)


def areas_of(boxes: Tensor) -> Tensor:
    """Return the areas of boxes [n, 4]: [n]."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def picture_size(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return height and width, float32 [], of the part of images [1, 3, H, W] that is not zero-padding."""
    highest = images.abs().max(axis=[0, 1])  # [H, W]
    return tuple(
        ((highest.max(axis=1 - axis) > 0).astype("float32") * (paddle.arange(side, dtype="float32") + 1)).max()
        for axis, side in enumerate(shape_of(images)[2:])
    )


def box_features(maps: Sequence[Tensor], boxes: Tensor, size: Sequence[Tensor], *, side: int) -> Tensor:
    """Cut the features of n boxes out of the pyramid by RoIAlign: [n, C, side, side].

    maps: [1, C, h, w] of P3 to P5; boxes: float32 [n, 4]; size: height and width of the picture. Each level cuts out
    all boxes, with a small box in place of those that belong to another level.
    """
    levels, small = box_levels(boxes, size), paddle.to_tensor([[0.0, 0.0, 1.0, 1.0]])
    has_area = (boxes[:, 2:] > boxes[:, :2]).astype("int64").prod(axis=1)
    count = paddle.full([1], boxes.shape[0], "int32")
    total = 0
    for level, (feature, stride) in enumerate(zip(maps, BOX_STRIDES)):
        own = ((levels == level).astype("int64") * has_area).astype("float32").unsqueeze(1)
        places = boxes * own + small * (1 - own)
        features = roi_align(
            feature, places, count, output_size=side, spatial_scale=1 / stride, sampling_ratio=-1, aligned=True
        )
        total = total + features * own.reshape([-1, 1, 1, 1])
    return total


def box_levels(boxes: Tensor, size: Sequence[Tensor]) -> Tensor:
    """Return the level of each box by its share of the picture, int64 [n], 0 for P3 (Lee and Park 2020, section
    3.2)."""
    areas, picture = areas_of(boxes), size[0] * size[1]
    return (areas * 2 > picture).astype("int64") + (areas * 4 > picture).astype("int64")


def paste_masks(masks: Tensor, boxes: Tensor, size: Sequence, *, threshold: float) -> Tensor:
    """Spread masks over their boxes: uint8 [n, *size], 1 inside; nothing where a box has no area.

    masks: float32 [n, h, w], probabilities; boxes: float32 [n, 4]. As `tools.predict.mask_windows.masks_in_boxes`.
    """
    x1, y1, x2, y2 = paddle.unbind(boxes, axis=1)
    rows, columns = _cell_shares(y1, y2, masks.shape[1], size[0]), _cell_shares(x1, x2, masks.shape[2], size[1])
    return (paddle.matmul(paddle.matmul(rows, masks), columns, transpose_y=True) >= threshold).astype("uint8")


def _cell_shares(low: Tensor, high: Tensor, cells: int, length: int | Tensor) -> Tensor:
    """Return, for one axis, the weight of each cell at the centre of each pixel: [n, length, cells]."""
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    pixels = paddle.arange(length, dtype="float32").unsqueeze(0)
    reached = (pixels >= low.floor()).logical_and(pixels < high.ceil()).logical_and(high > low).astype("float32")
    places = (pixels + 0.5 - low) / (high - low).clip(min=1e-12) * cells - 0.5
    shares = F.relu(1 - (places.unsqueeze(2) - paddle.arange(cells, dtype="float32")).abs())
    return shares * reached.unsqueeze(2)
