"""The plain decoder of the SOLO family, step by step as in section 3.4 of SOLOv2 (Wang et al. 2020).

Paddle tensors, on any device; a GPU runs it. All candidates' masks are in memory at once, as in the original SOLO: 1000
candidates of config 0 take about 0.5 GB. `fast.py` gives the same on a CPU in less time; `exported.py` makes a graph of
`decode_candidates`. The masks of the three kinds of head are in `plain_masks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import HeadConfig, NMSConfig
from model.decode.cells import smallest_areas
from model.decode.decoded import Decoded

MasksOf = Callable[[Tensor], Tensor]  # cells, int64 [n], to the probabilities of their masks, float32 [n, h, w]
REJECTED = -1.0  # in place of a score: sorted last, and no instance


@paddle.no_grad()
def decode(scores: Tensor, masks_of: MasksOf, head: HeadConfig, nms: NMSConfig) -> Decoded:
    """Decode one picture. scores: float32 [cells, classes], probabilities after points NMS."""
    candidates = (scores > nms.score_thr).nonzero()  # 1. pairs of a cell and a class above the threshold, [n, 2]
    if candidates.shape[0] == 0:
        candidates = paddle.zeros([1, 2], "int64")  # a pair that is rejected below, so that no tensor is empty
    cells, classes = candidates.unbind(axis=1)
    scores = scores.gather_nd(candidates)
    masks, scores, classes = decode_candidates(scores, cells, classes, masks_of, head, nms)
    count = int((scores > REJECTED).sum())
    return Decoded(masks[:count], scores[:count].numpy(), classes[:count].numpy())


def decode_candidates(
    scores: Tensor, cells: Tensor, classes: Tensor, masks_of: MasksOf, head: HeadConfig, nms: NMSConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn n candidates into instances: masks [k, h, w], scores [k], classes [k], k = min(n, nms.max_per_img).

    scores: float32 [n]; cells, classes: int64 [n]. Sorted by score; the last ones are REJECTED.
    """
    masks = masks_of(cells)  # 2. the mask of each candidate's cell
    inside = (masks > nms.mask_thr).astype("float32").flatten(start_axis=1)  # [n, pixels]
    areas = inside.sum(axis=1)
    # 3. A mask must be larger than the stride of its level. Exported graphs also take candidates below the threshold.
    smallest = paddle.to_tensor(smallest_areas(head).astype(np.float32)).gather(cells)
    valid = (scores > nms.score_thr).logical_and(areas > smallest)
    # 4. Maskness: the score is multiplied by the mean probability inside the mask.
    maskness = (masks.flatten(start_axis=1) * inside).sum(axis=1) / areas.clip(min=1.0)
    scores = paddle.where(valid, scores * maskness, paddle.full_like(scores, REJECTED))
    best = descending(scores)[: nms.nms_pre]  # 5. the best enter Matrix NMS
    scores, classes, inside = scores.gather(best), classes.gather(best), inside.gather(best)
    decayed = scores * matrix_nms(inside, classes, nms)  # 6. Matrix NMS
    valid = (scores > REJECTED).logical_and(decayed >= nms.update_thr)  # 7. lowered scores must pass a threshold
    decayed = paddle.where(valid, decayed, paddle.full_like(decayed, REJECTED))
    kept = descending(decayed)[: nms.max_per_img]  # 8. the best are the instances
    return masks.gather(best.gather(kept)), decayed.gather(kept), classes.gather(kept)


def matrix_nms(inside: Tensor, classes: Tensor, nms: NMSConfig) -> Tensor:
    """Return the factor, float32 [n], that lowers each score for overlaps with better masks of its class.

    inside: float32 [n, pixels], 1 inside the mask, else 0; classes: int64 [n]; both sorted by score, highest first.
    """
    areas = inside.sum(axis=1)
    intersection = paddle.matmul(inside, inside, transpose_y=True)  # [n, n]
    union = areas.unsqueeze(0) + areas.unsqueeze(1) - intersection
    same = (classes.unsqueeze(0) == classes.unsqueeze(1)).astype("float32")
    iou = paddle.triu(intersection / union.clip(min=1.0) * same, diagonal=1)  # [i, j]: the better i overlaps j
    compensation = iou.max(axis=0).unsqueeze(1)  # [i, 1]: how much i is overlapped itself
    if nms.kernel == "gaussian":
        return paddle.exp(nms.sigma * (compensation**2 - iou**2).min(axis=0))
    # Where i equals a better mask, that one lowers j just as much; skipping i avoids a division by 0.
    ratios = (1 - iou) / (1 - compensation).clip(min=1e-12)
    return paddle.where((compensation < 1).expand_as(ratios), ratios, paddle.ones_like(ratios)).min(axis=0)


def descending(scores: Tensor) -> Tensor:
    """Return the indices, int64 [n], that sort scores, highest first; equal scores keep their order.

    By counting, because Paddle's own sort may exchange equal scores.
    """
    ours, others = scores.unsqueeze(1), scores.unsqueeze(0)
    places = paddle.arange(scores.shape[0])
    earlier = (others == ours).logical_and(places.unsqueeze(0) < places.unsqueeze(1))
    return paddle.argsort((others > ours).logical_or(earlier).astype("float32").sum(axis=1))


MASKS_AT_ONCE = 8  # masks enlarged together: a hundred at the size of a photo would be gigabytes


def enlarge_masks(
    masks: Tensor, *, stride: int, resized: tuple[int, int], original: tuple[int, int], threshold: float
) -> Iterator[np.ndarray]:
    """Enlarge masks to the picture's size and cut them at a threshold: n arrays, bool [H, W].

    masks: float32 [n, h, w]; stride: pixels of the padded input per pixel of these; resized: height and width of the
    picture within the padded input; original: of the picture itself. Two bilinear resizes, as in the original SOLO.
    """
    height, width = masks.shape[1:]
    for start in range(0, masks.shape[0], MASKS_AT_ONCE):
        some = masks[start : start + MASKS_AT_ONCE].unsqueeze(0)
        padded = F.interpolate(some, size=(stride * height, stride * width), mode="bilinear", align_corners=False)
        picture = padded[:, :, : resized[0], : resized[1]]
        enlarged = F.interpolate(picture, size=original, mode="bilinear", align_corners=False).squeeze(0)
        yield from (enlarged > threshold).numpy()
