"""From records to the batches that a network learns from; the same ones for the same seed, whoever prepares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from config.base import Config
from data.augment import augment, needs_second
from data.box_targets import BoxTargets, box_targets
from data.coco import decode_mask
from data.coco_pictures import Record, read_record_image
from data.geometry import select_present
from data.grid_targets import GridTargets, grid_targets
from data.preprocess import normalize_batch
from data.samples import Sample

# What randomness is for, so that no two uses share their numbers.
_ORDER, _AUGMENTATION = 0, 1


@dataclass(frozen=True, eq=False)
class Batch:
    """images: float32 [N, 3, H, W], normalised and padded; targets, names: N."""

    images: np.ndarray
    targets: tuple[GridTargets | BoxTargets, ...]
    names: tuple[str, ...]


class TrainingSet:
    """Records in a random order for each epoch, augmented.

    Everything random is drawn from (seed, epoch, place in the epoch), never from a generator that lives on, so that it
    depends neither on the number of threads nor on what was done before.
    """

    def __init__(self, records: Sequence[Record], config: Config, *, seed: int) -> None:
        self.records = records
        self.config = config
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def steps_per_epoch(self, world_size: int) -> int:
        """What does not fill a step at the end of an epoch is left out."""
        return len(self.records) // self.total_batch(world_size)

    def total_batch(self, world_size: int) -> int:
        """Pictures in a step of all processes together."""
        return self.config.train_cfg.batch_size * self.config.train_cfg.accumulate * world_size

    def places(self, step: int, part: int, *, rank: int, world_size: int) -> tuple[int, list[int]]:
        """The epoch of a step, and the places in it that process `rank` works on in its part `part` of `accumulate`.

        The places are those of one process with a batch as large as all of theirs together.
        """
        epoch, position = divmod(step, self.steps_per_epoch(world_size))
        size = self.config.train_cfg.batch_size
        first = position * self.total_batch(world_size) + (part * world_size + rank) * size
        return epoch, list(range(first, first + size))

    def batch(self, epoch: int, places: Sequence[int]) -> Batch:
        samples = [self.sample(epoch, place, self.index(epoch, place)) for place in places]
        images = normalize_batch([sample.image for sample in samples], self.config.data)
        targets = tuple(make_targets(sample, self.config, size=images.shape[2:]) for sample in samples)
        return Batch(images, targets, tuple(sample.name for sample in samples))

    def index(self, epoch: int, place: int) -> int:
        """Which record comes at this place of this epoch."""
        return int(_epoch_order(self.seed, epoch, len(self.records))[place])

    def sample(self, epoch: int, place: int, index: int) -> Sample:
        """Record `index`, augmented as it is at this place of this epoch."""
        rng = np.random.default_rng([self.seed, _AUGMENTATION, epoch, place])
        steps = self.config.augment.in_epoch(epoch)
        second = None
        if needs_second(steps, rng):
            second = load_sample(self.records[rng.integers(len(self.records))])
        return augment(load_sample(self.records[index]), second, augment=steps, data=self.config.data, rng=rng)


def make_targets(sample: Sample, config: Config, *, size: tuple[int, int]) -> GridTargets | BoxTargets:
    """What a picture teaches a network of this kind; size: height and width of the padded batch."""
    annotations = sample.gt_masks, sample.gt_boxes, sample.gt_classes
    if config.head.finds_boxes:
        return box_targets(*annotations, picture=sample.image.shape[:2], size=size, config=config.target)
    return grid_targets(*annotations, size=size, head=config.head, config=config.target)


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def load_sample(record: Record) -> Sample:
    """Read a picture and decode its masks; instances without a pixel are left out.

    Raises InputError with the picture's name where it cannot be read or has another size than the annotations say.
    """
    return make_sample(record, read_record_image(record))


def make_sample(record: Record, image: np.ndarray) -> Sample:
    """A picture of a record's size, uint8 [H, W, 3], with the record's instances but for those without a pixel."""
    found = record.annotations
    masks = tuple(decode_mask(annotation, record.height, record.width) for annotation in found)
    boxes = np.array([annotation.box for annotation in found], np.float32).reshape(-1, 4)
    classes = np.array([annotation.class_index for annotation in found], np.int64)
    return select_present(Sample(image, masks, boxes, classes, name=str(record.path)))
