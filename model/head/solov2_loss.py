"""What SOLOv2 learns from a batch (Wang et al. 2020, section 3.2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor

from config.base import LossConfig
from model.losses import dynamic_dice_loss, focal_loss


class PictureTargets(NamedTuple):
    """The targets of one picture as tensors; data.grid_targets says what they mean."""

    labels: Tensor  # int64 [cells]
    masks: Tensor  # uint8 [n, H / 4, W / 4]
    cells: Tensor  # int64 [p]
    rows: Tensor  # int64 [p]
    positives: int  # cells that have a class


class LossSum(NamedTuple):
    """A loss before it is divided by what it is the mean of, which may be spread over several processes."""

    total: Tensor  # float32 scalar with gradient
    count: int  # what it is a sum over
    extra: int = 0  # added once to the counts of all processes

    def divisor(self, count: float) -> float:
        """What to divide by, given the counts of all processes together."""
        return max(count + self.extra, 1)

    def mean(self) -> Tensor:
        """The loss where there is one process."""
        return self.total / self.divisor(self.count)


def solov2_losses(
    cate_logits: Tensor, kernels: Tensor, mask_feats: Tensor, targets: Sequence[PictureTargets], config: LossConfig
) -> dict[str, LossSum]:
    """Losses of a batch by name: `mask` (dice) and `category` (focal).

    cate_logits: [N, cells, classes]; kernels: [N, cells, D]; mask_feats: [N, D, H / 4, W / 4]; targets: N.
    The mask loss is a mean over (cell, instance) pairs, the category loss is divided by the number of cells that have
    a class, and 1, as in the original SOLO. All of it is float32, in mixed precision too.
    """
    with paddle.amp.auto_cast(enable=False):
        return _float32_losses(cate_logits, kernels, mask_feats, targets, config)


def _float32_losses(
    cate_logits: Tensor, kernels: Tensor, mask_feats: Tensor, targets: Sequence[PictureTargets], config: LossConfig
) -> dict[str, LossSum]:
    dice, pairs, positives = paddle.zeros([]), 0, 0
    # Not by index: the gradient of an index is as large as the batch, for every picture.
    for picture, kernel, feats in zip(targets, kernels.unbind(), mask_feats.unbind()):
        if picture.cells.shape[0]:
            chosen = kernel.astype("float32").gather(picture.cells)
            feats = feats.astype("float32").flatten(start_axis=1)  # [D, pixels]
            dice = dice + dynamic_dice_loss(chosen, feats, picture.masks.flatten(start_axis=1), picture.rows)
        pairs += picture.cells.shape[0]
        positives += picture.positives
    if not pairs:
        # Every parameter gets a gradient, be it 0, so that a step does the same with and without instances.
        dice = (kernels.astype("float32").sum() + mask_feats.astype("float32").sum()) * 0.0
    labels = paddle.concat([picture.labels for picture in targets])
    logits = cate_logits.astype("float32").flatten(stop_axis=1)
    category = focal_loss(logits, labels, gamma=config.focal_gamma, alpha=config.focal_alpha)
    return {
        "mask": LossSum(dice * config.dice_weight, pairs),
        "category": LossSum(category, positives, extra=1),
    }
