"""Training batches computed in the plainest way: full-size masks, resized one by one, and one copy for each cell.

`data.training_set` computes the same from small windows and shared masks; tests/data/test_reference_targets.py compares
the two, and tests/benchmarks/training_batches.py their times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from config.base import Config
from data import geometry, training_set
from data.coco import Annotation, to_rle
from data.grid_targets import INSIDE, NO_CLASS, Extents, GridTargets, assign_cells, box_sides
from data.preprocess import pad_to_batch
from data.samples import MaskWindow, Sample
from data.training_set import TrainingSet

MASK_STRIDE = 4  # pixels of the input per pixel of a mask target


class CellTargets(NamedTuple):
    """Targets of SOLOv2 with one mask for each positive cell."""

    labels: np.ndarray  # int64 [cells], class of each cell or NO_CLASS
    cells: np.ndarray  # int64 [p], the cells that learn a mask
    masks: np.ndarray  # uint8 [p, H / 4, W / 4], 0 or 1


def reference_batch(data: TrainingSet, epoch: int, places: Sequence[int]) -> tuple[np.ndarray, list[CellTargets]]:
    """Return the images float32 [N, 3, H, W] and the targets of the batch that `TrainingSet.batch` returns."""
    with full_size_masks():
        samples = [data.sample(epoch, place, data.index(epoch, place)) for place in places]
    mean, std = np.float32(data.config.data.mean), np.float32(data.config.data.std)
    images = [(sample.image.astype(np.float32) - mean) / std for sample in samples]
    padded = pad_to_batch(images, data.config.data.size_divisor)
    return padded, [_cell_targets(sample, padded.shape[2:], data.config) for sample in samples]


@contextmanager
def full_size_masks() -> Iterator[None]:
    """Within the block every mask is as large as its picture, and is cropped and resized as a full picture.

    Not for cutmix and copy-paste: they take the boxes of what they cut from the windows of the masks.
    """

    def keep(cls: type[MaskWindow], mask: np.ndarray, top: int = 0, left: int = 0) -> MaskWindow:
        return MaskWindow(top, left, np.ascontiguousarray(mask) if mask.any() else np.zeros((0, 0), np.uint8))

    def decode(annotation: Annotation, height: int, width: int) -> MaskWindow:
        return keep(MaskWindow, coco_mask.decode(to_rle(annotation.segmentation, height, width)))

    def resize(mask: MaskWindow, rows: np.ndarray, columns: np.ndarray, _grows: bool) -> MaskWindow:
        size = len(columns), len(rows)
        return keep(MaskWindow, cv2.resize(mask.pixels, size, interpolation=cv2.INTER_NEAREST))

    with ExitStack() as patches:
        for place, name, function in (
            (MaskWindow, "from_full", classmethod(keep)),
            (geometry, "_resize_mask", resize),
            (training_set, "decode_mask", decode),
        ):
            patches.enter_context(patch.object(place, name, function))
        yield


def _cell_targets(sample: Sample, size: tuple[int, int], config: Config) -> CellTargets:
    head, target = config.head, config.target
    labels = np.full(sum(grid * grid for grid in head.num_grids), NO_CLASS, np.int64)
    centres = np.array([np.mean(np.nonzero(mask.pixels), axis=1)[::-1] for mask in sample.gt_masks]).reshape(-1, 2)
    cells, masks = [], []
    areas = np.array([mask.pixels.sum() for mask in sample.gt_masks])
    extents = Extents(centres, box_sides(sample.gt_boxes, target), areas)
    for block in assign_cells(extents, size=size, head=head, config=target):
        mask = sample.gt_masks[block.instance].to_full(*size)
        quarter = cv2.resize(mask, None, fx=1 / MASK_STRIDE, fy=1 / MASK_STRIDE, interpolation=cv2.INTER_LINEAR)
        labels[block.cells] = sample.gt_classes[block.instance]
        if target.skip_empty_masks and not quarter.any():
            continue
        cells.extend(block.cells.tolist())
        masks.extend(quarter.copy() for _ in block.cells)
    stacked = np.stack(masks) if masks else np.zeros((0, *(side // MASK_STRIDE for side in size)), np.uint8)
    return CellTargets(labels, np.array(cells, np.int64), stacked)


def assert_same_targets(ours: GridTargets, reference: CellTargets) -> None:
    np.testing.assert_array_equal(ours.labels, reference.labels)
    np.testing.assert_array_equal(ours.cells, reference.cells)
    np.testing.assert_array_equal(ours.masks[MASK_STRIDE][ours.mask_rows] // INSIDE, reference.masks)
