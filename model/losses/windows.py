"""The dice loss of masks in windows around their cells, of SOLOv2 with `head.reach`."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from config.networks import HeadConfig
from model.decode.plain_masks import windowed_masks
from model.decode.windows import Windows, polynomial, windows_of
from model.losses.common import CHUNK, SMOOTH

SIXTEENTHS = np.float32(1 / 16)  # `data.grid_targets.INSIDE`


def window_dice_loss(
    kernels: Tensor, feats: Tensor, cells: Tensor, mask_rows: Tensor, masks: Tensor, head: HeadConfig
) -> Tensor:
    """Return the sum over p masks of the dice loss of `dynamic_dice_loss`, within the windows of their cells.

    kernels: [cells, D + TERMS] of a picture. feats: [D, h, w]. cells, mask_rows: int64 [p], the cell and the target of
    each mask. masks: uint8 [n, h, w], targets in sixteenths. Returns a float32 scalar. p is 1 or more.
    """
    chosen, feats = kernels.astype("float32").gather(cells), feats.astype("float32")
    if feats.place.is_cpu_place():
        return _WindowDice.apply(chosen, feats, cells, mask_rows, masks, head)
    return plain_window_dice(chosen, feats, cells, mask_rows, masks, head)


def plain_window_dice(
    chosen: Tensor, feats: Tensor, cells: Tensor, mask_rows: Tensor, masks: Tensor, head: HeadConfig
) -> Tensor:
    """Compute the loss on full maps, on any device; chosen: [p, D + TERMS], the kernels of the cells."""
    p = windowed_masks(chosen, feats, cells, head)
    windows = windowed_masks(paddle.zeros_like(chosen), feats, cells, head) > 0  # 0.5 inside, 0 outside
    t = masks.gather(mask_rows).astype("float32") * SIXTEENTHS * windows.astype("float32")
    sizes = (p * p + t * t).sum(axis=[1, 2]) + 2 * SMOOTH
    return (1 - 2 * (p * t).sum(axis=[1, 2]) / sizes).sum()


class _WindowDice(PyLayer):
    """The loss on a CPU: only probabilities inside the windows are computed and kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Tensor, feats: Tensor, cells: Tensor, mask_rows: Tensor, masks: Tensor, head: HeadConfig
    ) -> Tensor:
        k, f = kernels.numpy(), feats.numpy()
        windows = windows_of(cells.numpy(), head, f.shape[1:])
        places = windows.slices()
        targets = masks.numpy()
        t = np.stack([targets[row][place] for row, place in zip(mask_rows.numpy(), places)]) * SIXTEENTHS
        p = polynomial(k[:, len(f) :], windows.y, windows.x)
        # Features of full maps are multiplied, which takes less time than to copy those of each window.
        for start in range(0, len(k), CHUNK):
            logits = (k[start : start + CHUNK, : len(f)] @ f.reshape(len(f), -1)).reshape(-1, *f.shape[1:])
            for part, full, place in zip(p[start:], logits, places[start:]):
                part += full[place]
        p = 0.5 + 0.5 * np.tanh(0.5 * p)
        overlaps = (p * t).sum(axis=(1, 2))
        sizes = (p * p).sum(axis=(1, 2)) + (t * t).sum(axis=(1, 2)) + 2 * SMOOTH
        ctx.arrays = k, f, windows, t, p, overlaps, sizes
        return paddle.to_tensor((1 - 2 * overlaps / sizes).sum(), dtype="float32")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        k, f, windows, t, p, overlaps, sizes = ctx.arrays
        scale = np.float32(gradient)
        by_target, by_probability = -2 / sizes * scale, 4 * overlaps / sizes**2 * scale
        of_logits = (by_target[:, None, None] * t + by_probability[:, None, None] * p) * p * (1 - p)
        kernel_gradient, feat_gradient = np.empty_like(k), np.zeros((len(f), f[0].size), np.float32)
        kernel_gradient[:, len(f) :] = _polynomial_gradient(of_logits, windows)
        places = windows.slices()
        for start in range(0, len(k), CHUNK):
            chunk = slice(start, start + CHUNK)
            full = np.zeros((len(k[chunk]), *f.shape[1:]), np.float32)
            for whole, part, place in zip(full, of_logits[chunk], places[chunk]):
                whole[place] = part
            flat = full.reshape(len(full), -1)
            kernel_gradient[chunk, : len(f)] = flat @ f.reshape(len(f), -1).T
            feat_gradient += k[chunk, : len(f)].T @ flat
        return paddle.to_tensor(kernel_gradient), paddle.to_tensor(feat_gradient.reshape(f.shape)), None, None, None


def _polynomial_gradient(of_values: np.ndarray, windows: Windows) -> np.ndarray:
    """Return the gradient of the weights of `polynomial`, [n, TERMS]; of_values: that of its values."""
    y, x = windows.y, windows.x
    rows, columns = of_values.sum(axis=2), of_values.sum(axis=1)
    products = (of_values * x[:, None, :]).sum(axis=2)  # [n, height]
    terms = rows, rows * y, columns * x, rows * y * y, columns * x * x, products * y
    return np.stack([term.sum(axis=1) for term in terms], axis=1)
