"""Count how the instances of a data set are assigned to a network's levels and cells, and suggest scale ranges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from config.base import Config, DataConfig, HeadConfig, TargetConfig
from data.coco_pictures import Record
from data.geometry import resize_to
from data.grid_targets import CellBlock, Extents, assign_cells, box_scales, measure_extents, shrink_mask
from data.preprocess import padded_size, resized_size
from data.samples import Sample
from data.training_set import make_sample
from tools.common.kinds import kind_of

OVERLAP = 2.0  # upper end of a range / lower end of the next, as in the default scale_ranges
MIN_NOT_LEARNT = 0.01  # ranges are suggested only if at least this share of the instances has no cell of its own
MAX_REMAINING = 0.9  # suggested ranges must leave at most this share of them


class Measurement(NamedTuple):
    """The instances of one picture at one size of the network's input."""

    size: tuple[int, int]  # height and width, padded as a batch of only this picture
    extents: Extents  # of n instances
    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of this size
    lost: int  # number of other instances, which keep no pixel at this size and are not learnt
    vanished: int  # number of the n instances whose mask target is empty


class AssignmentCounts(NamedTuple):
    """Counts of how instances are assigned to levels and cells. Arrays are int64 [levels].

    An instance is assigned to each level whose scale range contains it, and counts on each of them.
    """

    objects: np.ndarray  # instances on the level
    cells: np.ndarray  # cells of the level with at least one instance
    same_centre: np.ndarray  # instances whose centre of mass is in the same cell as another's on the level
    any_shared: np.ndarray  # instances that share at least one cell with another on the level
    on_no_level: int  # instances that are in no scale range, or too small
    crowded_out: int  # instances that count in `same_centre` on each of their levels
    nested: int  # instances that share a centre cell with another whose box contains theirs, or lies in theirs

    @property
    def not_learnt(self) -> int:
        """Number of instances without a centre cell of their own on any level."""
        return self.on_no_level + self.crowded_out

    @property
    def failure_rate(self) -> float:
        """Share of (instance, level) pairs without a centre cell of their own; an instance on no level is one pair."""
        return (self.on_no_level + self.same_centre.sum()) / max(1, self.on_no_level + self.objects.sum())


@dataclass(frozen=True)
class Suggestion:
    """Better scale_ranges for a data set, with the counts for the present ranges (before) and for these (after)."""

    scale_ranges: tuple[float, ...]
    before: AssignmentCounts
    after: AssignmentCounts


def input_sizes(config: Config) -> list[int]:
    """Return the short sides to measure at: the network's input size, and the smallest and largest of training."""
    sides = config.augment.short_sides
    return list(dict.fromkeys([config.data.short_side, *([min(sides), max(sides)] if sides else [])]))


def measure(record: Record, *, short_sides: Sequence[int], config: Config) -> list[Measurement]:
    """Decode the masks of a picture and scale them to each short side as in training, without reading the picture."""
    sample = make_sample(record, _blank(record.height, record.width), config)
    lost = len(record.annotations) - len(sample)
    sizes = [replace(config.data, short_side=side) for side in short_sides]
    stride = min(kind_of(config).mask_strides(config))
    return [_measure_at(sample, data, config.target, stride, lost=lost) for data in sizes]


def _measure_at(sample: Sample, data: DataConfig, target: TargetConfig, mask_stride: int, *, lost: int) -> Measurement:
    """Measure the instances at the size given by `data`; lost: number of instances without a pixel before scaling."""
    size = resized_size(*sample.image.shape[:2], short_side=data.short_side, long_side=data.long_side)
    scaled = resize_to(sample, _blank(*size))
    small = [shrink_mask(mask, mask_stride, soft=target.soft_masks) for mask in scaled.gt_masks]
    return Measurement(
        size=padded_size(*size, divisor=data.size_divisor),
        extents=measure_extents(scaled.gt_masks, scaled.gt_boxes, target),
        boxes=scaled.gt_boxes,
        lost=lost + len(sample) - len(scaled),
        vanished=sum(not mask.pixels.any() for mask in small),
    )


def _blank(height: int, width: int) -> np.ndarray:
    """Return a black picture, uint8 [height, width, 3], that takes no memory."""
    return np.broadcast_to(np.uint8(0), (height, width, 3))


def count_assignments(measured: Measurement, *, head: HeadConfig, target: TargetConfig) -> AssignmentCounts:
    """Count how the instances of one picture are assigned to levels and cells."""
    levels = len(head.num_grids)
    blocks = assign_cells(measured.extents, size=measured.size, head=head, config=target)
    centres = Counter(block.centre for block in blocks)
    users = Counter(cell for block in blocks for cell in block.cells.tolist())
    objects, same_centre, any_shared = np.zeros((3, levels), np.int64)
    for block in blocks:
        objects[block.level] += 1
        same_centre[block.level] += centres[block.centre] > 1
        any_shared[block.level] += any(users[cell] > 1 for cell in block.cells.tolist())
    ends = np.cumsum(np.square(head.num_grids))
    cells = np.bincount(np.searchsorted(ends, np.fromiter(users, np.int64), side="right"), minlength=levels)
    assigned = {block.instance for block in blocks}
    with_own_centre = {block.instance for block in blocks if centres[block.centre] == 1}
    return AssignmentCounts(
        objects=objects,
        cells=cells,
        same_centre=same_centre,
        any_shared=any_shared,
        on_no_level=len(measured.extents.sides) - len(assigned),
        crowded_out=len(assigned) - len(with_own_centre),
        nested=len(_find_nested(blocks, measured.boxes)),
    )


def _find_nested(blocks: Sequence[CellBlock], boxes: np.ndarray) -> set[int]:
    """Return the instances that share a centre cell with another, where one of the two boxes lies in the other."""
    by_centre = defaultdict(list)
    for block in blocks:
        by_centre[block.centre].append(block.instance)
    nested: set[int] = set()
    for instances in by_centre.values():
        for pair in combinations(instances, 2):
            (a, b), (c, d) = ((boxes[one][:2], boxes[one][2:]) for one in pair)
            if ((a <= c) & (d <= b)).all() or ((c <= a) & (b <= d)).all():
                nested.update(pair)
    return nested


def sum_counts(counts: Iterable[AssignmentCounts]) -> AssignmentCounts:
    """Return the sum of one or more counts."""
    return AssignmentCounts(*(sum(values) for values in zip(*counts)))


def collect_scales(pictures: Iterable[Measurement]) -> np.ndarray:
    """Return the scales of the instances of one or more pictures: float64 [n], in pixels of the network's input."""
    return box_scales(np.concatenate([measured.extents.sides for measured in pictures]))


def fit_scale_ranges(scales: np.ndarray, *, num_grids: Sequence[int], present: Sequence[float]) -> tuple[float, ...]:
    """Fit scale ranges so that each level's share of the instances equals its share of the cells.

    The borders between levels are quantiles of the scales, float64 [n]; neighbours overlap by OVERLAP around a border.
    The outer ends are the present ones, extended to the smallest and largest scale.
    """
    cells = np.square(num_grids)
    borders = np.quantile(scales, np.cumsum(cells)[:-1] / cells.sum())
    lows = [min(present[0], np.floor(scales.min())), *np.rint(borders / OVERLAP**0.5)]
    highs = [*np.rint(borders * OVERLAP**0.5), max(present[-1], np.ceil(scales.max()))]
    return tuple(float(end) for pair in zip(lows, highs) for end in pair)


def suggest(pictures: Sequence[Measurement], *, head: HeadConfig, target: TargetConfig) -> Suggestion | None:
    """Return fitted scale ranges if the present ones are poor and the fitted ones clearly better, otherwise None.

    Poor: at least MIN_NOT_LEARNT of the instances have no centre cell of their own. Better: at most MAX_REMAINING of
    those remain, and the failure rate is lower.
    """
    scales = collect_scales(pictures)
    if not scales.size:
        return None
    ranges = fit_scale_ranges(scales, num_grids=head.num_grids, present=target.scale_ranges)
    fitted = replace(target, scale_ranges=ranges)
    before, after = (
        sum_counts(count_assignments(measured, head=head, target=each) for measured in pictures)
        for each in (target, fitted)
    )
    is_poor = before.not_learnt >= MIN_NOT_LEARNT * scales.size
    is_better = after.not_learnt <= MAX_REMAINING * before.not_learnt and after.failure_rate < before.failure_rate
    if is_poor and is_better:
        return Suggestion(ranges, before, after)
    return None
