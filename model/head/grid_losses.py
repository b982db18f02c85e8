"""What the networks of the SOLO family learn from a batch (Wang et al. 2019, section 3.3; 2020, section 3.2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import LossConfig
from model.losses import dynamic_dice_loss, focal_loss, product_dice_loss


class PictureTargets(NamedTuple):
    """The targets of one picture as tensors; data.grid_targets says what they mean."""

    labels: Tensor  # int64 [cells]
    masks: dict[int, Tensor]  # by stride: uint8 [n, H / stride, W / stride]
    cells: Tensor  # int64 [p]
    rows: Tensor  # int64 [p]
    level_pairs: tuple[int, ...]  # how many of the p pairs are those of each level
    positives: int  # cells that have a class


class LossSum(NamedTuple):
    """A loss before it is divided by what it is the mean of, which may be spread over several processes."""

    total: Tensor  # float32 scalar with gradient
    count: float  # what it is a sum over
    extra: int = 0  # added once to the counts of all processes
    least: float = 1.0  # which the divisor is never below

    def divisor(self, count: float) -> float:
        """What to divide by, given the counts of all processes together."""
        return max(count + self.extra, self.least)

    def mean(self) -> Tensor:
        """The loss where there is one process."""
        return self.total / self.divisor(self.count)


def pair_count(targets: Sequence[PictureTargets]) -> int:
    return sum(sum(picture.level_pairs) for picture in targets)


def category_loss(cate_logits: Tensor, targets: Sequence[PictureTargets], config: LossConfig) -> LossSum:
    """Focal loss of all cells; cate_logits: [N, cells, classes]."""
    labels = paddle.concat([picture.labels for picture in targets])
    logits = cate_logits.astype("float32").flatten(stop_axis=1)
    total = focal_loss(logits, labels, gamma=config.focal_gamma, alpha=config.focal_alpha)
    return LossSum(total, sum(picture.positives for picture in targets), extra=1)


def kernel_dice(kernels: Tensor, mask_feats: Tensor, targets: Sequence[PictureTargets], stride: int) -> Tensor:
    """SOLOv2's masks. kernels: [N, cells, D]; mask_feats: [N, D, h, w], at 1 / stride of the input's size."""
    total = paddle.zeros([]) if pair_count(targets) else nothing(kernels, mask_feats)
    # Not by index: the gradient of an index is as large as the batch, for every picture.
    for picture, kernel, feats in zip(targets, kernels.unbind(), mask_feats.unbind()):
        if sum(picture.level_pairs):
            total = total + _kernel_dice(kernel, feats, picture.cells, picture.rows, picture.masks[stride])
    return total


def level_kernel_dice(
    kernels: Tensor, mask_feats: Sequence[Tensor], targets: Sequence[PictureTargets], strides: Sequence[int]
) -> Tensor:
    """SOLO's masks. kernels: [cells, D]; mask_feats and strides: those of each level, as in `kernel_dice`."""
    total = paddle.zeros([]) if pair_count(targets) else nothing(kernels, *mask_feats)
    for level, (feats, stride) in enumerate(zip(mask_feats, strides)):
        for picture, cells, rows, of_picture in _pictures_of_level(level, targets, feats):
            total = total + _kernel_dice(kernels, of_picture, cells, rows, picture.masks[stride])
    return total


def product_dice(mask_logits: Sequence[Tensor], targets: Sequence[PictureTargets], strides: Sequence[int]) -> Tensor:
    """Decoupled SOLO's masks. mask_logits: [N, 2 S, h, w] of each level, those of columns before those of rows."""
    total, first = paddle.zeros([]), 0
    for level, (logits, stride) in enumerate(zip(mask_logits, strides)):
        grid = logits.shape[1] // 2
        if not any(picture.level_pairs[level] for picture in targets):
            total = total + nothing(logits)
        for picture, cells, rows, of_picture in _pictures_of_level(level, targets, logits):
            maps = F.sigmoid(of_picture.astype("float32").flatten(start_axis=1))
            cells, masks = cells - first, picture.masks[stride].flatten(start_axis=1)
            total = total + product_dice_loss(maps, cells % grid, grid + cells // grid, masks, rows)
        first += grid * grid
    return total


def _pictures_of_level(
    level: int, targets: Sequence[PictureTargets], maps: Tensor
) -> Iterator[tuple[PictureTargets, Tensor, Tensor, Tensor]]:
    """Pictures with pairs of this level: their targets, cells and rows of the pairs, and their part of the maps."""
    for picture, of_picture in zip(targets, maps.unbind()):
        start = sum(picture.level_pairs[:level])
        stop = start + picture.level_pairs[level]
        if stop > start:
            yield picture, picture.cells[start:stop], picture.rows[start:stop], of_picture


def _kernel_dice(kernels: Tensor, feats: Tensor, cells: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
    chosen = kernels.astype("float32").gather(cells)
    feats = feats.astype("float32").flatten(start_axis=1)  # [D, pixels]
    return dynamic_dice_loss(chosen, feats, masks.flatten(start_axis=1), rows)


def nothing(*parts: Tensor) -> Tensor:
    """0, with a gradient of 0 for each part, so that a step treats all parameters alike, whatever it learns from."""
    return sum((part.astype("float32").sum() for part in parts), paddle.zeros([])) * 0.0
