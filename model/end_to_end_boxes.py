"""CenterMask2 with all its decisions as one graph without a branch: a fixed number of candidates and of instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F
from paddle.vision.ops import roi_align

from config.base import Config, NMSConfig
from config.networks import BOX_STRIDES, level_sizes
from model.head.box_decode import areas
from model.head.roi_align import levels_of
from model.resize import shape_of

NOTHING = -1.0  # where there is no box: less than any probability


class Candidates(NamedTuple):
    """What enters the suppression, m boxes, of which some may be none."""

    boxes: Tensor  # float32 [m, 4], x1, y1, x2, y2 in pixels of the network's input
    products: Tensor  # float32 [m], probability times centerness, or NOTHING
    classes: Tensor  # int64 [m]


class BoxesEndToEnd(nn.Layer):
    """What `model.centermask2.detect` gives of one picture, filled up with scores of 0 to `nms.max_per_img` instances.

    The picture ends where the zeros begin that it is padded with at the bottom and right.
    """

    def __init__(self, network: nn.Layer, config: Config) -> None:
        super().__init__()
        self.network = network
        self.nms, self.roi = config.nms, config.roi

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: float32 [1, 3, H, W], as of the network.

        Returns masks, uint8 [n, H, W], 0 or 1; scores, float32 [n], each box's score times the estimated IoU of its
        mask; classes, int64 [n]; how many of the n are instances, int64 [1]: the first, in descending order of the
        box's score; boxes, float32 [n, 4], as in `Candidates`, cut at the picture's sides; what the masks are made of,
        probabilities, float32 [n, 2 size, 2 size]; and the boxes' scores, float32 [n]. Behind the instances all is 0.
        """
        *predictions, p3, p4, p5 = self.network(images)
        of_levels = level_sizes(*(BOX_STRIDES[0] * side for side in shape_of(p3)[2:]))
        found = candidates(*(part[0] for part in predictions), of_levels, self.nms)
        kept, products = suppress(found, iou_thr=self.nms.iou_thr, most=self.nms.max_per_img)
        real = products > NOTHING
        present, count = real.astype("float32"), real.astype("int64")
        boxes = found.boxes.gather(kept) * present.unsqueeze(1)
        classes = found.classes.gather(kept) * count
        picture = picture_size(images)
        features = box_features((p3, p4, p5), boxes, picture, side=self.roi.size)
        logits, overlaps = self.network.roi_head(features, classes)
        soft = F.sigmoid(logits) * present.reshape([-1, 1, 1])
        box_scores = paddle.sqrt(F.relu(products))
        boxes = paddle.minimum(F.relu(boxes), paddle.stack([picture[1], picture[0]] * 2))
        masks = pasted(soft, boxes, shape_of(images)[2:], threshold=self.nms.mask_thr)
        return masks, box_scores * overlaps, classes, count.sum().reshape([1]), boxes, soft, box_scores


def candidates(
    probabilities: Tensor, centerness: Tensor, distances: Tensor, sizes: Sequence[Sequence], nms: NMSConfig
) -> Candidates:
    """As of `model.head.box_decode`, `nms_pre` of each level; the sizes may be tensors."""
    classes = probabilities.shape[1]
    products = probabilities * centerness.unsqueeze(1)
    products = paddle.where(probabilities > nms.score_thr, products, paddle.full_like(products, NOTHING))
    more = paddle.full([nms.nms_pre], NOTHING)  # small levels have fewer
    levels, first = [], 0
    for (height, width), stride in zip(sizes, BOX_STRIDES):
        count = height * width
        best, pairs = paddle.topk(paddle.concat([products[first : first + count].flatten(), more]), nms.nms_pre)
        cells = (pairs // classes).clip(max=count - 1)
        places = paddle.stack([cells % width, cells // width], axis=1).astype("float32") * stride + stride // 2
        reach = distances.gather(cells + first) * stride
        boxes = paddle.concat([places - reach[:, :2], places + reach[:, 2:]], axis=1)
        levels.append(Candidates(boxes, best, pairs % classes))
        first = first + count
    return Candidates(*map(paddle.concat, zip(*levels)))


def suppress(found: Candidates, *, iou_thr: float, most: int) -> tuple[Tensor, Tensor]:
    """The same boxes as by `model.head.box_decode.suppress`, one after the other: their places, and their products.

    Both have `most` rows; where there are no boxes left, the product is NOTHING. Of equals the first is the better one.
    """
    low, high = paddle.split(found.boxes.t(), 2)  # [2, m]
    sizes, left = areas(found.boxes), found.products
    order = paddle.arange(left.shape[0])
    nothing = paddle.full_like(left, NOTHING)
    kept, products = [], []
    for _ in range(most):
        best = left.argmax(keepdim=True)  # [1]
        kept.append(best)
        products.append(left.gather(best))
        sides = paddle.minimum(high, high.gather(best, axis=1)) - paddle.maximum(low, low.gather(best, axis=1))
        shared = F.relu(sides).prod(axis=0)
        union = sizes + sizes.gather(best) - shared
        rivals = (shared / union.clip(min=1e-12) > iou_thr).logical_and(found.classes == found.classes.gather(best))
        left = paddle.where(rivals.logical_or(order == best), nothing, left)
    return paddle.concat(kept), paddle.concat(products)


def picture_size(images: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of what is not 0, float32 []; images: [1, 3, H, W]."""
    highest = images.abs().max(axis=[0, 1])  # [H, W]
    return tuple(
        ((highest.max(axis=1 - axis) > 0).astype("float32") * (paddle.arange(side, dtype="float32") + 1)).max()
        for axis, side in enumerate(shape_of(images)[2:])
    )


def box_features(maps: Sequence[Tensor], boxes: Tensor, size: Sequence[Tensor], *, side: int) -> Tensor:
    """As of `model.head.roi_align`, [n, C, side, side], of one picture.

    A level cuts a small box out in the place of each that is another level's.
    """
    levels, small = levels_of(boxes, size), paddle.to_tensor([[0.0, 0.0, 1.0, 1.0]])
    has_area = (boxes[:, 2:] > boxes[:, :2]).astype("int64").prod(axis=1)
    count = paddle.full([1], boxes.shape[0], "int32")
    total = 0
    for level, (feature, stride) in enumerate(zip(maps, BOX_STRIDES)):
        own = ((levels == level).astype("int64") * has_area).astype("float32").unsqueeze(1)
        places = boxes * own + small * (1 - own)
        cut = roi_align(
            feature, places, count, output_size=side, spatial_scale=1 / stride, sampling_ratio=-1, aligned=True
        )
        total = total + cut * own.reshape([-1, 1, 1, 1])
    return total


def pasted(soft: Tensor, boxes: Tensor, size: Sequence, *, threshold: float) -> Tensor:
    """uint8 [n, *size], as of `tools.predict.mask_windows.masks_in_boxes`; nothing where a box has no area."""
    x1, y1, x2, y2 = paddle.unbind(boxes, axis=1)
    rows, columns = _samples(y1, y2, soft.shape[1], size[0]), _samples(x1, x2, soft.shape[2], size[1])
    return (paddle.matmul(paddle.matmul(rows, soft), columns, transpose_y=True) >= threshold).astype("uint8")


def _samples(low: Tensor, high: Tensor, cells: int, length: int | Tensor) -> Tensor:
    """One axis: the share that each pixel's centre has of each cell, [n, length, cells]."""
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    pixels = paddle.arange(length, dtype="float32").unsqueeze(0)
    reached = (pixels >= low.floor()).logical_and(pixels < high.ceil()).logical_and(high > low).astype("float32")
    places = (pixels + 0.5 - low) / (high - low).clip(min=1e-12) * cells - 0.5
    shares = F.relu(1 - (places.unsqueeze(2) - paddle.arange(cells, dtype="float32")).abs())
    return shares * reached.unsqueeze(2)
