"""The losses of the SOLO family (Wang et al. 2019, section 3.3; 2020, section 3.2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import LossConfig
from config.networks import HeadConfig
from model.losses.common import LossSum, dynamic_dice_loss, focal_loss, product_dice_loss, zero_loss
from model.losses.windows import window_dice_loss


class PictureTargets(NamedTuple):
    """The targets of one picture as tensors; data/grid_targets.py describes them."""

    labels: Tensor  # int64 [cells]
    masks: dict[int, Tensor]  # by stride: uint8 [n, H / stride, W / stride]
    cells: Tensor  # int64 [p]
    mask_rows: Tensor  # int64 [p]
    level_pairs: tuple[int, ...]  # pairs of each level, p together
    positives: int  # cells that have a class


def pair_count(targets: Sequence[PictureTargets]) -> int:
    """Count the pairs of a cell and an instance of all pictures."""
    return sum(sum(picture.level_pairs) for picture in targets)


def category_loss(cate_logits: Tensor, targets: Sequence[PictureTargets], config: LossConfig) -> LossSum:
    """Return the focal loss of all cells. cate_logits: [N, cells, classes]."""
    labels = paddle.concat([picture.labels for picture in targets])
    logits = cate_logits.astype("float32").flatten(stop_axis=1)
    total = focal_loss(logits, labels, gamma=config.focal_gamma, alpha=config.focal_alpha)
    return LossSum(total, sum(picture.positives for picture in targets), extra=1)


def kernel_dice(
    kernels: Tensor, mask_feats: Tensor, targets: Sequence[PictureTargets], stride: int, head: HeadConfig
) -> Tensor:
    """Return the dice loss of SOLOv2. kernels: [N, cells, weights]; mask_feats: [N, D, h, w], h = H / stride."""
    total = paddle.zeros([]) if pair_count(targets) else zero_loss(kernels, mask_feats)
    # By unbind: the gradient of an index is as large as the batch, for every picture.
    for picture, kernel, feats in zip(targets, kernels.unbind(), mask_feats.unbind()):
        if sum(picture.level_pairs):
            own = kernel, feats, picture.cells, picture.mask_rows, picture.masks[stride]
            total = total + (window_dice_loss(*own, head) if head.reach else _kernel_dice(*own))
    return total


def level_kernel_dice(
    kernels: Tensor, mask_feats: Sequence[Tensor], targets: Sequence[PictureTargets], strides: Sequence[int]
) -> Tensor:
    """Return the dice loss of SOLO. kernels: [cells, D]; mask_feats, strides: of each level, as in `kernel_dice`."""
    total = paddle.zeros([]) if pair_count(targets) else zero_loss(kernels, *mask_feats)
    for level, (feats, stride) in enumerate(zip(mask_feats, strides)):
        for picture, cells, mask_rows, of_picture in _pictures_of_level(level, targets, feats):
            total = total + _kernel_dice(kernels, of_picture, cells, mask_rows, picture.masks[stride])
    return total


def product_dice(mask_logits: Sequence[Tensor], targets: Sequence[PictureTargets], strides: Sequence[int]) -> Tensor:
    """Return the dice loss of Decoupled SOLO. mask_logits: [N, 2 S, h, w] of each level, columns before rows."""
    total, first = paddle.zeros([]), 0
    for level, (logits, stride) in enumerate(zip(mask_logits, strides)):
        grid = logits.shape[1] // 2
        if not any(picture.level_pairs[level] for picture in targets):
            total = total + zero_loss(logits)
        for picture, cells, mask_rows, of_picture in _pictures_of_level(level, targets, logits):
            maps = F.sigmoid(of_picture.astype("float32").flatten(start_axis=1))
            cells, masks = cells - first, picture.masks[stride].flatten(start_axis=1)
            total = total + product_dice_loss(maps, cells % grid, grid + cells // grid, masks, mask_rows)
        first += grid * grid
    return total


def _pictures_of_level(
    level: int, targets: Sequence[PictureTargets], maps: Tensor
) -> Iterator[tuple[PictureTargets, Tensor, Tensor, Tensor]]:
    """Yield the pictures with pairs of a level: targets, cells and mask_rows of these pairs, and the picture's maps."""
    for picture, of_picture in zip(targets, maps.unbind()):
        start = sum(picture.level_pairs[:level])
        stop = start + picture.level_pairs[level]
        if stop > start:
            yield picture, picture.cells[start:stop], picture.mask_rows[start:stop], of_picture


def _kernel_dice(kernels: Tensor, feats: Tensor, cells: Tensor, mask_rows: Tensor, masks: Tensor) -> Tensor:
    chosen = kernels.astype("float32").gather(cells)
    feats = feats.astype("float32").flatten(start_axis=1)  # [D, pixels]
    return dynamic_dice_loss(chosen, feats, masks.flatten(start_axis=1), mask_rows)
