"""Losses that several heads share: dice loss for masks, focal loss for classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

SMOOTH = 0.001  # keeps the quotient finite for masks without a pixel, as in the original SOLO
CHUNK = 64  # masks computed at a time, to bound the memory of intermediate values


class LossSum(NamedTuple):
    """A loss as a sum and a count, to be divided when the counts of all processes are known."""

    total: Tensor  # float32 scalar with gradient
    terms: float  # number of terms of the sum
    extra: int = 0  # added once to the counts of all processes
    least: float = 1.0  # smallest divisor

    def divisor(self, count: float) -> float:
        """Return the divisor, given the count of all processes together."""
        return max(count + self.extra, self.least)

    def mean(self) -> Tensor:
        """Return the loss of a single process."""
        return self.total / self.divisor(self.terms)


def zero_loss(*parts: Tensor) -> Tensor:
    """Return 0 with a gradient of 0 for each part, so that a step updates all parameters alike."""
    return sum((part.astype("float32").sum() for part in parts), paddle.zeros([])) * 0.0


class _DynamicDice(PyLayer):
    """Sum of dice losses of masks that come from a dynamic 1x1 convolution.

    Forward and backward are written by hand, because this is the largest part of a training step's memory: only one
    probability for each pixel of each mask is kept between the two.
    """

    @staticmethod
    def forward(ctx: Any, kernels: Tensor, feats: Tensor, masks: Tensor, mask_rows: Tensor) -> Tensor:
        probabilities, quotients = [], []
        for start in range(0, kernels.shape[0], CHUNK):
            p = F.sigmoid(kernels[start : start + CHUNK] @ feats)  # [chunk, pixels]
            probabilities.append(p)
            quotients.append(_overlaps_and_sizes(p, _targets(masks, mask_rows[start : start + CHUNK])))
        overlaps, sizes = (paddle.concat(parts) for parts in zip(*quotients))
        ctx.save_for_backward(kernels, feats, masks, mask_rows, overlaps, sizes, *probabilities)
        return (1 - 2 * overlaps / sizes).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernels, feats, masks, mask_rows, overlaps, sizes, *probabilities = ctx.saved_tensor()
        kernel_gradients = []
        feat_gradient = paddle.zeros_like(feats)
        for start, p in zip(range(0, kernels.shape[0], CHUNK), probabilities):
            chunk = slice(start, start + CHUNK)
            of_p = _dice_gradient(p, _targets(masks, mask_rows[chunk]), overlaps[chunk], sizes[chunk], gradient)
            of_logits = of_p * p * (1 - p)  # [chunk, pixels]
            kernel_gradients.append(paddle.matmul(of_logits, feats, transpose_y=True))
            feat_gradient += paddle.matmul(kernels[chunk], of_logits, transpose_x=True)
        return paddle.concat(kernel_gradients), feat_gradient, None, None


class _ProductDice(PyLayer):
    """Sum of dice losses of masks that are products of two maps; only the maps are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, firsts: Tensor, seconds: Tensor, masks: Tensor, mask_rows: Tensor) -> Tensor:
        quotients = []
        for start in range(0, mask_rows.shape[0], CHUNK):
            chunk = slice(start, start + CHUNK)
            p = maps.gather(firsts[chunk]) * maps.gather(seconds[chunk])  # [chunk, pixels]
            quotients.append(_overlaps_and_sizes(p, _targets(masks, mask_rows[chunk])))
        overlaps, sizes = (paddle.concat(parts) for parts in zip(*quotients))
        ctx.save_for_backward(maps, firsts, seconds, masks, mask_rows, overlaps, sizes)
        return (1 - 2 * overlaps / sizes).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, firsts, seconds, masks, mask_rows, overlaps, sizes = ctx.saved_tensor()
        map_gradient = paddle.zeros_like(maps)
        for start in range(0, mask_rows.shape[0], CHUNK):
            chunk = slice(start, start + CHUNK)
            first, second = maps.gather(firsts[chunk]), maps.gather(seconds[chunk])
            targets = _targets(masks, mask_rows[chunk])
            of_p = _dice_gradient(first * second, targets, overlaps[chunk], sizes[chunk], gradient)
            for places, other in ((firsts, second), (seconds, first)):
                # A product with a one-hot matrix adds up the masks of each map, in the same order every time.
                where = F.one_hot(places[chunk], maps.shape[0])  # [chunk, maps]
                map_gradient += paddle.matmul(where, of_p * other, transpose_x=True)
        return map_gradient, None, None, None, None


def _overlaps_and_sizes(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum(pt) and sum(p^2) + sum(t^2) of each mask. p, t: [masks, pixels]."""
    return (p * t).sum(axis=1), (p * p).sum(axis=1) + (t * t).sum(axis=1) + 2 * SMOOTH


def _dice_gradient(p: Tensor, t: Tensor, overlaps: Tensor, sizes: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of 1 - 2 * overlap / size with respect to p."""
    by_target = (-2 / sizes * gradient).unsqueeze(1)
    by_probability = (4 * overlaps / sizes**2 * gradient).unsqueeze(1)
    return by_target * t + by_probability * p


def _targets(masks: Tensor, mask_rows: Tensor) -> Tensor:
    return masks.gather(mask_rows).astype("float32") * (1 / 16)  # sixteenths, `data.grid_targets.INSIDE`


def dynamic_dice_loss(kernels: Tensor, feats: Tensor, masks: Tensor, mask_rows: Tensor) -> Tensor:
    """Return the sum over p masks of the dice loss 1 - 2 sum(pt) / (sum(p^2) + sum(t^2)) (Milletari et al. 2016).

    kernels: float32 [p, D], weights of each mask's 1x1 convolution. feats: float32 [D, pixels], mask features.
    masks: uint8 [n, pixels], targets in sixteenths. mask_rows: int64 [p], the target of each mask.
    Returns a float32 scalar. p is 1 or more.
    """
    return _DynamicDice.apply(kernels, feats, masks, mask_rows)


def product_dice_loss(maps: Tensor, firsts: Tensor, seconds: Tensor, masks: Tensor, mask_rows: Tensor) -> Tensor:
    """Return the sum of dice losses of p masks, each the product of two maps of probabilities.

    maps: float32 [n, pixels]. firsts, seconds: int64 [p], the two maps of each mask. masks, mask_rows: as in
    `dynamic_dice_loss`.
    """
    return _ProductDice.apply(maps, firsts, seconds, masks, mask_rows)


def focal_loss(logits: Tensor, labels: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """Return the sum of the sigmoid focal loss (Lin et al. 2017) over all places and classes.

    logits: float32 [m, classes]. labels: int64 [m], 0-based class, -1 where there is none. gamma: 0 or more.
    Returns a float32 scalar.
    """
    wanted = F.one_hot(labels + 1, logits.shape[1] + 1)[:, 1:]
    margins = logits * (2 * wanted - 1)  # [m, classes], the logit of the right answer
    weights = (1 - alpha) + (2 * alpha - 1) * wanted
    # Paddle's own focal loss has no gradient where 1 - p is rounded to 0 and gamma is below 1.
    doubts = paddle.exp(gamma * F.log_sigmoid(-margins))  # (1 - p)^gamma
    return -(weights * doubts * F.log_sigmoid(margins)).sum()
