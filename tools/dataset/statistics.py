"""How the instances of a data set fall on a network's levels and cells, and scale ranges that suit them better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from config.base import Config, DataConfig, HeadConfig, TargetConfig
from data.coco_pictures import Record
from data.geometry import resize_to
from data.grid_targets import FINEST_STRIDE, Extents, assign_cells, box_scales, measure_extents, shrink_mask
from data.preprocess import padded_size, resized_size
from data.samples import Sample
from data.training_set import make_sample

OVERLAP = 2.0  # upper end of a range / lower end of the next one, in the default scale_ranges
MIN_NOT_LEARNT = 0.01  # share of the instances that no cell learns for itself, from which ranges are suggested ...
MAX_REMAINING = 0.9  # ... that leave at most this part of it


class Measurement(NamedTuple):
    """The instances of one picture at one size of the network's input; what decides about their cells."""

    size: tuple[int, int]  # height and width, padded as a batch of this picture alone
    extents: Extents  # of n instances
    lost: int  # further instances that keep no pixel at this size and are not learnt
    vanished: int  # of the n those whose mask has nothing left at 1/4 size


class AssignmentCounts(NamedTuple):
    """How many instances fall where. Arrays are int64 [levels]; sums of several are made by `sum_counts`.

    An instance falls on each level whose scale range it is in, and counts on each of them.
    """

    objects: np.ndarray  # instances on the level
    cells: np.ndarray  # cells of the level that are given at least one instance
    same_centre: np.ndarray  # instances whose centre of mass lies in the same cell as that of another on the level
    any_shared: np.ndarray  # instances with at least one cell that is given to another on the level too
    on_no_level: int  # instances in no scale range, or too small
    crowded_out: int  # instances that are of `same_centre` on every level they fall on

    @property
    def not_learnt(self) -> int:
        """Instances that no cell learns for itself."""
        return self.on_no_level + self.crowded_out

    @property
    def failure_rate(self) -> float:
        """Share of the pairs of an instance and its level that have no centre cell to themselves; no level is one."""
        return (self.on_no_level + self.same_centre.sum()) / max(1, self.on_no_level + self.objects.sum())


@dataclass(frozen=True)
class Suggestion:
    """scale_ranges that suit a data set better, and how its instances fall with the present ones and with them."""

    scale_ranges: tuple[float, ...]
    before: AssignmentCounts
    after: AssignmentCounts


def input_sizes(config: Config) -> list[int]:
    """Short sides to measure at: the network's input size, and the smallest and the largest of training."""
    sides = config.augment.short_sides
    return list(dict.fromkeys([config.data.short_side, *([min(sides), max(sides)] if sides else [])]))


def measure(record: Record, *, short_sides: Sequence[int], data: DataConfig, target: TargetConfig) -> list[Measurement]:
    """Decode the masks of a picture and scale them to each of the short sides as training does, without the picture."""
    sample = make_sample(record, _blank(record.height, record.width))
    lost = len(record.annotations) - len(sample)
    return [_measure_at(sample, replace(data, short_side=side), target, lost=lost) for side in short_sides]


def _measure_at(sample: Sample, data: DataConfig, target: TargetConfig, *, lost: int) -> Measurement:
    """lost: instances that had no pixel before."""
    size = resized_size(*sample.image.shape[:2], short_side=data.short_side, long_side=data.long_side)
    scaled = resize_to(sample, _blank(*size))
    quarters = [shrink_mask(mask, FINEST_STRIDE, soft=target.soft_masks) for mask in scaled.gt_masks]
    return Measurement(
        size=padded_size(*size, divisor=data.size_divisor),
        extents=measure_extents(scaled.gt_masks, scaled.gt_boxes, target),
        lost=lost + len(sample) - len(scaled),
        vanished=sum(not quarter.pixels.any() for quarter in quarters),
    )


def _blank(height: int, width: int) -> np.ndarray:
    """A black picture, uint8 [height, width, 3], that takes no memory."""
    return np.broadcast_to(np.uint8(0), (height, width, 3))


def count_assignments(measured: Measurement, *, head: HeadConfig, target: TargetConfig) -> AssignmentCounts:
    """Where the instances of one picture fall."""
    levels = len(head.num_grids)
    blocks = assign_cells(measured.extents, size=measured.size, head=head, config=target)
    centres = Counter(block.centre for block in blocks)
    given = Counter(cell for block in blocks for cell in block.cells.tolist())
    objects, same_centre, any_shared = np.zeros((3, levels), np.int64)
    for block in blocks:
        objects[block.level] += 1
        same_centre[block.level] += centres[block.centre] > 1
        any_shared[block.level] += any(given[cell] > 1 for cell in block.cells.tolist())
    ends = np.cumsum(np.square(head.num_grids))
    cells = np.bincount(np.searchsorted(ends, np.fromiter(given, np.int64), side="right"), minlength=levels)
    landed = {block.instance for block in blocks}
    with_own_centre = {block.instance for block in blocks if centres[block.centre] == 1}
    return AssignmentCounts(
        objects=objects,
        cells=cells,
        same_centre=same_centre,
        any_shared=any_shared,
        on_no_level=len(measured.extents.sides) - len(landed),
        crowded_out=len(landed) - len(with_own_centre),
    )


def sum_counts(landings: Iterable[AssignmentCounts]) -> AssignmentCounts:
    """The sum of at least one landing."""
    return AssignmentCounts(*(sum(values) for values in zip(*landings)))


def collect_scales(pictures: Iterable[Measurement]) -> np.ndarray:
    """float64 [n], the scales of the instances of at least one picture, in pixels of the network's input."""
    return box_scales(np.concatenate([measured.extents.sides for measured in pictures]))


def fit_scale_ranges(scales: np.ndarray, *, num_grids: Sequence[int], present: Sequence[float]) -> tuple[float, ...]:
    """Scale ranges with which each level learns as large a share of the instances as it has of the cells.

    The borders between levels are quantiles of the scales, float64 [n]; around each border neighbours overlap by
    OVERLAP. The outer ends are the present ones, or the least and the greatest scale where those lie outside.
    """
    cells = np.square(num_grids)
    borders = np.quantile(scales, np.cumsum(cells)[:-1] / cells.sum())
    lows = [min(present[0], np.floor(scales.min())), *np.rint(borders / OVERLAP**0.5)]
    highs = [*np.rint(borders * OVERLAP**0.5), max(present[-1], np.ceil(scales.max()))]
    return tuple(float(end) for pair in zip(lows, highs) for end in pair)


def suggest(pictures: Sequence[Measurement], *, head: HeadConfig, target: TargetConfig) -> Suggestion | None:
    """Fitted scale ranges, where the present ones are poor and they are clearly better; otherwise None.

    Poor: no cell learns MIN_NOT_LEARNT of the instances for itself. Better: of those at most MAX_REMAINING remain, and
    a smaller share of all that lands somewhere or on no level does so without a centre cell to itself.
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
