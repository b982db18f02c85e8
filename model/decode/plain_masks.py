"""Masks of chosen cells for the three kinds of head, in Paddle tensors: the plain version of `fast_masks.py`.

Each function takes the raw predictions of a batch after the scores, the picture's index in it, the cells, int64 [n],
and the config of the head. It returns probabilities, float32 [n, h, w], at the size of the mask features. No branch
depends on the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from config.base import HeadConfig
from model.decode.cells import axis_maps, cell_levels
from model.decode.windows import cell_places
from model.resize import resize_bilinear, shape_of


def solov2_masks(mask_inputs: Sequence[Tensor], index: int, cells: Tensor, head: HeadConfig) -> Tensor:
    """Convolve the mask features with the kernel that each cell predicts (Wang et al. 2020, section 3.2)."""
    kernels, mask_feats = mask_inputs  # [N, cells, D], [N, D, h, w]
    kernels, feats = kernels[index].gather(cells), mask_feats[index]
    return windowed_masks(kernels, feats, cells, head) if head.reach else _dynamic_convolution(kernels, feats)


def windowed_masks(kernels: Tensor, feats: Tensor, cells: Tensor, head: HeadConfig) -> Tensor:
    """Add the polynomial of each cell to its logits, and cut the mask to its window: probabilities [n, h, w].

    kernels: [n, D + TERMS]; feats: [D, h, w]. See `windows.py`.
    """
    height, width = shape_of(feats)[1:]
    channels = feats.shape[0]
    grids, rows, columns = (paddle.to_tensor(part).gather(cells).astype("float32") for part in cell_places(head))
    inside_rows, y = _axis(rows, grids, height, head.reach)
    inside_columns, x = _axis(columns, grids, width, head.reach)
    constant, of_y, of_x, of_yy, of_xx, of_xy = kernels[:, channels:].unsqueeze(2).unbind(axis=1)
    of_rows, of_columns = constant + y * (of_y + y * of_yy), x * (of_x + x * of_xx)
    logits = paddle.matmul(kernels[:, :channels], feats.flatten(start_axis=1)).reshape([-1, height, width])
    logits = logits + of_rows.unsqueeze(2) + of_columns.unsqueeze(1) + (of_xy * y).unsqueeze(2) * x.unsqueeze(1)
    return F.sigmoid(logits) * inside_rows.unsqueeze(2) * inside_columns.unsqueeze(1)


def _axis(places: Tensor, grids: Tensor, length: int | Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return for one direction 1 in each window and 0 outside, [n, length], and the relative places [n, length]."""
    length = paddle.to_tensor(length, dtype="float32")
    pixels = paddle.arange(length, dtype="float32")
    starts = paddle.floor(((2 * places + 1) * length - 2 * reach * grids + grids) / (2 * grids))
    starts = paddle.minimum(starts.clip(min=0.0), (length - 2 * reach).clip(min=0.0)).unsqueeze(1)
    inside = (pixels >= starts).logical_and(pixels < starts + 2 * reach).astype("float32")
    centres = ((places + 0.5) / grids * length).unsqueeze(1)
    return inside, (pixels + 0.5 - centres) / reach


def solo_masks(mask_inputs: Sequence[Tensor], index: int, cells: Tensor, head: HeadConfig) -> Tensor:
    """Compute each cell's mask from the features of its own level, enlarged to the first level's size."""
    kernels, *mask_feats = mask_inputs  # [cells, D], [N, D, h, w] of each level
    kernels = kernels.gather(cells)
    levels = paddle.to_tensor(cell_levels(head.num_grids)).gather(cells).reshape([-1, 1, 1])
    size = shape_of(mask_feats[0])[2:]
    total = 0
    for level, feats in enumerate(mask_feats):
        masks = _dynamic_convolution(kernels, feats[index]).unsqueeze(1)
        total = total + resize_bilinear(masks, size).squeeze(1) * (levels == level).astype("float32")
    return total


def decoupled_solo_masks(mask_inputs: Sequence[Tensor], index: int, cells: Tensor, head: HeadConfig) -> Tensor:
    """Multiply the probabilities of each cell's column and row (Wang et al. 2019, section 5)."""
    size = shape_of(mask_inputs[0])[2:]
    # By tanh, because Paddle 3.3's inference library fails where it fuses a sigmoid with the convolutions before it.
    levels = [paddle.tanh(level[index : index + 1] * 0.5) * 0.5 + 0.5 for level in mask_inputs]  # [1, 2 S, h, w]
    maps = paddle.concat([resize_bilinear(level, size)[0] for level in levels])  # [maps, h, w]
    columns, rows = (paddle.to_tensor(chosen).gather(cells) for chosen in axis_maps(head.num_grids))
    return maps.gather(columns) * maps.gather(rows)


def _dynamic_convolution(kernels: Tensor, feats: Tensor) -> Tensor:
    """Convolve features [D, h, w] with 1x1 kernels [n, D], a matrix product: probabilities [n, h, w]."""
    height, width = shape_of(feats)[1:]
    return F.sigmoid(paddle.matmul(kernels, feats.flatten(start_axis=1))).reshape([-1, height, width])
