"""The steps before and behind a network, whatever runs it; they need no Paddle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple, Union

import numpy as np

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.images import read_image
from data.preprocess import pad_to_batch, preprocess
from model.decoding import Raw
from model.startup import CPU_THREADS
from tools.common.threads import StageTimes, ordered_map, worker_threads
from tools.predict.instances import Instances
from tools.predict.mask_windows import Size
from tools.predict.postprocess import Findings, find

Engine = Callable[[np.ndarray], Raw]  # float32 [N, 3, H, W] to arrays, or to tensors on the device
Picture = Union[np.ndarray, str, Path]
DEFAULT_THREADS = 4


@dataclass(frozen=True)
class Prepared:
    """A picture ready for the network."""

    input: np.ndarray  # float32 [h, w, 3], resized and normalised
    original_size: tuple[int, int]  # height and width of the picture itself


class Predicted(NamedTuple):
    """Raw predictions of a batch, which picture of it, and the item that the picture came from."""

    origin: object
    raw: Raw | None  # None where there was no picture
    index: int


class EnginePredictor:
    """A network that is there already, and the steps before and after it.

    engine: what runs the network, on `device`; None where that is done elsewhere. find: what makes instances of what
    the engine says, see tools.predict.postprocess. score: instances below it are left out.
    """

    def __init__(
        self,
        config: Config,
        classes: ClassList,
        engine: Engine | None,
        *,
        score: float,
        engine_name: str,
        device: str = "cpu",
        find: Callable[..., Findings] = find,
    ) -> None:
        self.config = config
        self.classes = classes
        self.engine = engine
        self.engine_name = engine_name
        self.device = device
        self.score = score
        self._find = find
        self._pool = _decoding_pool()

    def __call__(self, pictures: Picture | Sequence[Picture] | Iterable[Picture]) -> Instances | list | Iterator:
        """Instances of a picture; a list for a list; for any other iterable a generator that streams.

        A picture is uint8 [H, W, 3] RGB or the path of a file.
        """
        if isinstance(pictures, (np.ndarray, str, Path)):
            return next(self.stream([pictures]))
        if isinstance(pictures, (list, tuple)):
            return list(self.stream(pictures))
        if not isinstance(pictures, Iterable):
            raise InputError(f"{pictures!r} is no picture; give uint8 [H, W, 3] RGB, a path, or an iterable of them")
        return self.stream(pictures)

    def stream(self, pictures: Iterable[Picture], *, threads: int = DEFAULT_THREADS) -> Iterator[Instances]:
        """Instances of one picture after another, in order; threads work before and after the network."""
        with worker_threads(threads) as pool, decoding_thread(threads) as decoder:
            prepared = ordered_map(pool, self._prepare, pictures, ahead=threads)
            predicted = self.run_batches(prepared)
            yield from ordered_map(
                decoder, lambda item: self.finish(item.raw, item.index, item.origin), predicted, ahead=2
            )

    def prepare(self, image: np.ndarray) -> Prepared:
        """image: uint8 [H, W, 3] RGB."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"a picture of dtype {image.dtype} and shape {image.shape}; give uint8 [H, W, 3] RGB")
        return Prepared(input=preprocess(image, self.config.data), original_size=image.shape[:2])

    def run(self, batch: Sequence[Prepared]) -> Raw:
        """The network on a batch; the tensors stay on its device. Returns when they are there."""
        return self.engine(self.padded(batch))

    def padded(self, batch: Sequence[Prepared]) -> np.ndarray:
        """What the network gets, float32 [N, 3, H, W]."""
        data = self.config.data
        return pad_to_batch([prepared.input for prepared in batch], data.size_divisor, data.fixed_size)

    def warm_up(self) -> None:
        """Run everything once on a small empty picture, so that what is timed afterwards has no first-time costs."""
        prepared = self.prepare(np.zeros((64, 64, 3), np.uint8))
        self.finish(self.run([prepared]), 0, prepared)

    def finish(self, raw: Raw, index: int, prepared: Prepared) -> Instances:
        """Decode picture `index` of a batch."""
        return self.instances(raw, index, resized=prepared.input.shape[:2], original=prepared.original_size)

    def instances(self, raw: Raw, index: int, *, resized: Size, original: Size) -> Instances:
        """The same from height and width of the picture within the padded input, and of the picture itself."""
        parallel = self._pool.map
        found = self._find(raw, index, self.config, self.score, resized=resized, original=original, parallel=parallel)
        classes = self.classes
        return Instances.from_windows(
            original, found.windows, found.scores, found.classes, classes.names, classes.ids, found.detected, parallel
        )

    def run_batches(
        self,
        items: Iterable,
        prepared_of: Callable[[object], Prepared | None] = lambda item: item,
        times: StageTimes | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Predicted]:
        """The network over items in batches (default: `test_cfg.batch_size`); one without a picture passes by."""
        times = times or StageTimes()
        for batch in batched(items, batch_size or self.config.test_cfg.batch_size):
            prepared = [picture for picture in map(prepared_of, batch) if picture is not None]
            raw = None
            if prepared:
                with times.measure("network", pictures=len(prepared)):
                    raw = self.run(prepared)
            index = -1
            for item in batch:
                present = prepared_of(item) is not None
                index += present
                yield Predicted(item, raw if present else None, index)
            del raw  # or it would live on here while the network runs on the next batch

    def _prepare(self, picture: Picture) -> Prepared:
        return self.prepare(picture if isinstance(picture, np.ndarray) else read_image(picture))


def decoding_thread(threads: int) -> AbstractContextManager[Executor | None]:
    """The one thread that decodes, none for no threads.

    Decoding takes hundreds of megabytes a picture, which the allocator keeps for each thread that ever did it; one
    thread keeps up with the network.
    """
    return worker_threads(min(threads, 1))


def _decoding_pool() -> ThreadPoolExecutor:
    """Threads that share the parts of one picture's decoding; they end with the predictor."""
    return ThreadPoolExecutor(CPU_THREADS, thread_name_prefix="decoding")


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items in a row; the last one may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
