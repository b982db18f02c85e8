"""Training samples as one would write them first: whole masks, resized one by one, and a copy for each cell.

    python -m tests.benchmarks.reference_targets --config=2 -o train_path=... -o train_pre_path=...

times them against those of data.training_set, which must be the same, in one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from config import load_config
from config.base import Config
from data import geometry, training_set
from data.coco import Annotation, read_coco, to_rle
from data.grid_targets import FINEST_STRIDE, INSIDE, NO_CLASS, Extents, GridTargets, assign_cells, box_sides
from data.preprocess import pad_to_batch
from data.samples import MaskWindow, Sample
from data.training_set import TrainingSet
from tools.common.cli import Parser, add_config_options, positive_number, run
from tools.common.kinds import kind_of


class CellTargets(NamedTuple):
    """labels: int64 [cells]; cells: int64 [p]; masks: uint8 [p, H / 4, W / 4], 0 or 1, one for each cell."""

    labels: np.ndarray
    cells: np.ndarray
    masks: np.ndarray


def straightforward_batch(data: TrainingSet, epoch: int, places: Sequence[int]) -> tuple[np.ndarray, list[CellTargets]]:
    """The same as `TrainingSet.batch`, with a mask for each cell."""
    with whole_masks():
        samples = [data.sample(epoch, place, data.index(epoch, place)) for place in places]
    mean, std = np.float32(data.config.data.mean), np.float32(data.config.data.std)
    images = [(sample.image.astype(np.float32) - mean) / std for sample in samples]
    padded = pad_to_batch(images, data.config.data.size_divisor)
    return padded, [_cell_targets(sample, padded.shape[2:], data.config) for sample in samples]


@contextmanager
def whole_masks() -> Iterator[None]:
    """In the block all masks are at the size of their picture, and are cut and scaled whole.

    Cutmix and copy-paste take the boxes of what they cut from the windows of the masks, so they are not for here.
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
        whole = sample.gt_masks[block.instance].to_full(*size)
        quarter = cv2.resize(whole, None, fx=1 / FINEST_STRIDE, fy=1 / FINEST_STRIDE, interpolation=cv2.INTER_LINEAR)
        labels[block.cells] = sample.gt_classes[block.instance]
        if target.skip_empty_masks and not quarter.any():
            continue
        cells.extend(block.cells.tolist())
        masks.extend(quarter.copy() for _ in block.cells)
    stacked = np.stack(masks) if masks else np.zeros((0, *(side // FINEST_STRIDE for side in size)), np.uint8)
    return CellTargets(labels, np.array(cells, np.int64), stacked)


def assert_same(ours: GridTargets, theirs: CellTargets) -> None:
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.cells, theirs.cells)
    np.testing.assert_array_equal(ours.masks[FINEST_STRIDE][ours.rows] // INSIDE, theirs.masks)


def main() -> int:
    parser = Parser(__doc__)
    add_config_options(parser)
    parser.add_argument("--pictures", type=positive_number, default=160, help="how many are timed (default: 160)")
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)
    if config.head.kind != "solov2":
        parser.error("--config: is for SOLOv2, whose masks all have one size")
    cv2.setNumThreads(1)
    data = TrainingSet(
        read_coco(config.train_path, config.train_pre_path).records,
        config,
        seed=0,
        make_targets=kind_of(config).targets,
    )
    seconds = {"straightforward": 0.0, "data.training_set": 0.0}
    for number in tqdm(range(args.pictures)):
        epoch, place = divmod(number, len(data))
        results = []
        for (name, total), batch in zip(seconds.items(), (straightforward_batch, TrainingSet.batch)):
            start = time.process_time()
            results.append(batch(data, epoch, [place]))
            seconds[name] = total + time.process_time() - start
        (images, (theirs,)), ours = results
        np.testing.assert_array_equal(ours.images, images)
        assert_same(ours.targets[0], theirs)
    for name, total in seconds.items():
        print(f"{name}: {args.pictures / total:.1f} pictures a second, {1000 * total / args.pictures:.1f} ms a picture")
    print(f"{seconds['straightforward'] / seconds['data.training_set']:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
