"""Build training batches from records; the same seed gives the same batches, whatever thread or process builds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Callable, Union

import numpy as np

from config.base import Config
from config.errors import InputError
from data.augment import augment, needs_second
from data.box_targets import BoxTargets
from data.coco import decode_mask
from data.coco_pictures import Record, fingerprint_of, read_record_image
from data.geometry import select_present
from data.grid_targets import GridTargets
from data.preprocess import normalize_batch
from data.samples import Sample

# Part of the seed, so that different uses draw different random numbers.
_ORDER, _AUGMENTATION = 0, 1
_TRIES = 20  # pictures; if none of so many in a row can be read, the disk or the whole data set is at fault


# Targets of a sample, given height and width of the padded batch: `targets` of the kind of network.
MakeTargets = Callable[[Sample, "tuple[int, int]", Config], Union[GridTargets, BoxTargets]]


@dataclass(frozen=True, eq=False)
class Batch:
    """A training batch. images: float32 [N, 3, H, W], normalised and padded; targets, names: one per picture."""

    images: np.ndarray
    targets: tuple[GridTargets | BoxTargets, ...]
    names: tuple[str, ...]


class TrainingSet:
    """Augmented samples of records, in a random order for each epoch.

    Random numbers are seeded by (seed, epoch, place in the epoch), so that they depend neither on the number of threads
    nor on earlier samples. A picture that cannot be read is replaced by the next one in `records`, which depends on the
    files only, and added to `unreadable`, the reasons by path.
    """

    def __init__(self, records: Sequence[Record], config: Config, *, seed: int, make_targets: MakeTargets) -> None:
        self.records = records
        self.config = config
        self.seed = seed
        self.make_targets = make_targets
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.records)

    def steps_per_epoch(self, world_size: int) -> int:
        """Return the number of full steps in an epoch; the incomplete last step is left out."""
        return len(self.records) // self.total_batch(world_size)

    def total_batch(self, world_size: int) -> int:
        """Return the number of pictures in a step of all processes together."""
        return self.config.train_cfg.batch_size * self.config.train_cfg.accumulate * world_size

    def places(self, step: int, part: int, *, rank: int, world_size: int) -> tuple[int, list[int]]:
        """Return the epoch of a step and the places in it for process `rank` and part `part` of `accumulate`.

        All processes and parts of a step together have the places that a single process with the total batch has.
        """
        epoch, position = divmod(step, self.steps_per_epoch(world_size))
        size = self.config.train_cfg.batch_size
        first = position * self.total_batch(world_size) + (part * world_size + rank) * size
        return epoch, list(range(first, first + size))

    def batch(self, epoch: int, places: Sequence[int]) -> Batch:
        """Return the batch of the samples at these places of an epoch."""
        samples = [self.sample(epoch, place, self.index(epoch, place)) for place in places]
        images = normalize_batch([sample.image for sample in samples], self.config.data)
        targets = tuple(self.make_targets(sample, images.shape[2:], self.config) for sample in samples)
        return Batch(images, targets, tuple(sample.name for sample in samples))

    def index(self, epoch: int, place: int) -> int:
        """Return the index of the record at this place of this epoch."""
        return int(_epoch_order(self.seed, epoch, len(self.records))[place])

    def sample(self, epoch: int, place: int, index: int) -> Sample:
        """Return record `index`, or its replacement, with the augmentation of this place of this epoch.

        Raises InputError if neither it nor the records after it can be read.
        """
        rng = np.random.default_rng([self.seed, _AUGMENTATION, epoch, place])
        steps = self.config.augment.in_epoch(epoch)
        second = None
        if needs_second(steps, rng):
            second = self._load(int(rng.integers(len(self.records))))
        return augment(self._load(index), second, augment=steps, data=self.config.data, rng=rng)

    def _load(self, index: int) -> Sample:
        tries = min(_TRIES, len(self.records))
        for place in range(index, index + tries):
            record = self.records[place % len(self.records)]
            try:
                return load_sample(record, self.config)
            except InputError as error:
                self.unreadable[str(record.path)] = str(error)
        first = self.unreadable[str(self.records[index].path)]
        raise InputError(f"{first}; none of {tries} pictures in a row can be read, so check their disk and folder")


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def load_sample(record: Record, config: Config) -> Sample:
    """Read a picture and decode its masks; instances without a pixel are left out.

    Raises InputError with the picture's name if it cannot be read or has another size than the annotations state.
    """
    return make_sample(record, read_record_image(record, config.data.stretch), config)


def make_sample(record: Record, image: np.ndarray, config: Config) -> Sample:
    """Combine a picture of the record's size, uint8 [H, W, 3], with the record's instances that cover a pixel."""
    annotations = record.annotations
    masks = tuple(decode_mask(annotation, record.height, record.width) for annotation in annotations)
    boxes = np.array([annotation.box for annotation in annotations], np.float32).reshape(-1, 4)
    classes = np.array([annotation.class_index for annotation in annotations], np.int64)
    name, border = str(record.path), config.target.box_border
    return select_present(Sample(image, masks, boxes, classes, name=name, border=border))
