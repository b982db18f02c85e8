"""Pictures to instances: the class that the demo, the evaluation and users' own programs call.

`tools/predict/load.py` builds predictors from checkpoints and networks, `tools/deploy/exported.py` from ONNX files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import IOBase
from threading import BoundedSemaphore
from typing import Any, Callable, TypeVar, cast, get_args, overload

import numpy as np

from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.load_picture import Picture, load_picture, not_a_picture
from data.preprocess import pad_to_batch, preprocess
from model.decode.decoded import Decoded
from model.decode.loops import MANY_MASKS, numba_loops
from model.startup import CPU_THREADS
from tools.common.kinds import RawPredictions, kind_of
from tools.common.memory import is_out_of_memory
from tools.common.processes import refuse_after_fork
from tools.common.threads import StageTimes, ordered_map, worker_threads
from tools.predict.instances import Instances
from tools.predict.mask_windows import Size
from tools.predict.postprocess import to_instances

# Images, float32 [N, 3, H, W], and height and width of each picture within them, to raw predictions.
Engine = Callable[[np.ndarray, Sequence[Size]], RawPredictions]
Decode = Callable[[RawPredictions, int, Config], Decoded]
Item = TypeVar("Item")
DEFAULT_THREADS = 4
MANY_PICTURES = 8  # from which on several run at a time
MOST_STREAMS = 4  # each needs memory for the values between the network's layers
_NO_PICTURES = (bytes, bytearray, memoryview, IOBase, Mapping)


@dataclass(frozen=True)
class PreparedInput:
    """A picture as the network's input, before padding."""

    pixels: np.ndarray  # float32 [h, w, 3], resized and normalised
    original: Size  # of the picture itself

    @property
    def size(self) -> Size:
        """Height and width within the padded input."""
        return self.pixels.shape[:2]


def streams_for(pictures: int | None, threads: int) -> int:
    """Return how many pictures to run at a time: several in a folder, one where there are few, or no worker threads.

    pictures: None for an unknown number.

    A network on all cores waits for the slowest of them after each layer; several on a share of the cores each do not.
    """
    return min(CPU_THREADS, MOST_STREAMS, max(threads, 1)) if pictures is None or pictures >= MANY_PICTURES else 1


class Predictor:
    """A network with the steps before and after it.

        predictor = load_predictor(config=20)
        instances = predictor("images/test/shapes_09.jpg")

    Threads may share it: pictures are read and decoded in the calling threads, and the network runs for one of them at
    a time, or for as many as the engine has streams. In a forked process it raises InputError.

    engine: runs the network on `device`; None if something else does. streams: how many threads may call it at a time.
    decode: turns its raw predictions into instances at the network's resolution; None takes the decoder of the config's
    kind of network. score: instances below it are left out.
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
        decode: Decode | None = None,
        streams: int = 1,
    ) -> None:
        if isinstance(score, bool) or not isinstance(score, (int, float, np.floating)) or not 0 <= score <= 1:
            raise InputError(f"score={score!r}: expected a number from 0 to 1")
        self.classes = classes
        self.engine = cast(Engine, engine)  # not called if it is None
        self.engine_name = engine_name
        self.device = device
        self.score = float(score)
        self._decoder = decode or kind_of(config).decode
        self.use_config(config)
        # Other engines use all cores for one batch, and Paddle's inference library has one set of inputs and outputs.
        self.streams = streams
        self._network_free = BoundedSemaphore(streams)

    def use_config(self, config: Config) -> None:
        """Predict with other settings of the same network, such as `nms`, from now on."""
        self.config = config
        self._decoder_config = kind_of(config).for_scores_from(self.score, config)

    def __reduce__(self) -> tuple:
        raise InputError("a predictor cannot be copied or sent to another process; create it there with load_predictor")

    @overload
    def __call__(self, pictures: Picture) -> Instances: ...

    @overload
    def __call__(self, pictures: Iterable[Picture]) -> list[Instances] | Iterator[Instances]: ...

    def __call__(self, pictures: Picture | Sequence[Picture] | Iterable[Picture]) -> Instances | list | Iterator:
        """Return the instances of a picture, a list for a list or tuple, and for other iterables a generator that
        streams.

        A picture is uint8 [H, W, 3] RGB, the path of a file, or a PIL picture; with `data.stretch` in the config also
        [H, W] or [H, W, 3] RGB of another dtype, which is stretched as files are.
        """
        if isinstance(pictures, get_args(Picture)):
            return next(self.stream([pictures], threads=0))
        if isinstance(pictures, (list, tuple)):
            return list(self.stream(pictures))
        return self.stream(cast(Iterable[Picture], pictures))

    def stream(self, pictures: Iterable[Picture], *, threads: int = DEFAULT_THREADS) -> Iterator[Instances]:
        """Yield the instances of each picture in order.

        threads: workers that read and prepare pictures; 0 does everything in the caller's thread. Arrays are taken
        ahead of the results: yield a new array for each picture, or use 0. Raises InputError at the first picture that
        cannot be read, and at once for other arguments than these.
        """
        if isinstance(pictures, get_args(Picture)):
            raise InputError("stream: a single picture or array; give it to the predictor itself, or give a list")
        # Iterating over bytes gives numbers, over an open file its lines, over a dict its keys, over a tensor its rows.
        if not isinstance(pictures, Iterable) or isinstance(pictures, _NO_PICTURES) or getattr(pictures, "ndim", 0) > 1:
            raise not_a_picture(pictures)
        if not isinstance(threads, (int, np.integer)) or threads < 0:
            raise InputError(f"threads={threads!r}: expected an integer >= 0")
        return self._stream(pictures, int(threads))

    def _stream(self, pictures: Iterable[Picture], threads: int) -> Iterator[Instances]:
        def read(picture: Picture) -> PreparedInput:
            return self.prepare(load_picture(picture, self.config.data.stretch))

        with worker_threads(threads) as pool, decoding_thread(threads) as decoder:
            prepared = ordered_map(pool, read, pictures, ahead=threads)
            raw: Iterator[tuple[PreparedInput, Any, int]] = self.run_batches(
                prepared, lambda item: item, threads=threads
            )
            yield from ordered_map(decoder, lambda row: self.decode(row[1], row[2], row[0]), raw, ahead=2)

    def prepare(self, image: np.ndarray) -> PreparedInput:
        """Resize and normalise a picture, uint8 [H, W, 3] RGB."""
        if not isinstance(image, np.ndarray):
            raise not_a_picture(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"a picture of dtype {image.dtype} and shape {image.shape}; give uint8 [H, W, 3] RGB")
        return PreparedInput(preprocess(image, self.config.data), image.shape[:2])

    def pad(self, batch: Sequence[PreparedInput]) -> np.ndarray:
        """Return the network's input, float32 [N, 3, H, W], padded with zeros at the bottom and right."""
        data = self.config.data
        return pad_to_batch([prepared.pixels for prepared in batch], data.size_divisor, data.fixed_size)

    def run_batches(
        self,
        items: Iterable[Item],
        prepared_of: Callable[[Item], PreparedInput | None],
        times: StageTimes | None = None,
        batch_size: int | None = None,
        skip: Callable[[Item, Exception], Item] | None = None,
        *,
        threads: int,
    ) -> Iterator[tuple[Item, RawPredictions | None, int]]:
        """Run the network on items in batches; yield each item with the raw predictions of its batch and its index
        there.

        Several batches run at a time if the engine has so many streams, in `threads` threads at most; 0: in the
        caller's.

        prepared_of: None for an item without a picture, which passes without predictions. batch_size: by default
        `test_cfg.batch_size`. Predictions stay on the device.
        skip: gets an item for which there is too little memory even in a batch of its own, and the error, and returns
        the item that is yielded without predictions. None: the error is raised.
        """
        refuse_after_fork()
        times = times or StageTimes()
        batches = batched(items, batch_size or self.config.test_cfg.batch_size)
        streams = min(self.streams, threads)
        with worker_threads(streams if streams > 1 else 0) as pool:
            run = ordered_map(
                pool, lambda batch: list(self._run_batch(batch, prepared_of, times, skip)), batches, ahead=streams + 1
            )
            for rows in run:
                yield from rows

    def _run_batch(
        self,
        batch: Sequence[Item],
        prepared_of: Callable[[Item], PreparedInput | None],
        times: StageTimes,
        skip: Callable[[Item, Exception], Item] | None,
    ) -> Iterator[tuple[Item, RawPredictions | None, int]]:
        prepared = [picture for picture in map(prepared_of, batch) if picture is not None]
        raw = None
        if prepared:
            sizes = [picture.size for picture in prepared]
            try:
                with self._network_free, times.measure("network", pictures=len(prepared)):
                    raw = self.engine(self.pad(prepared), sizes)
            except Exception as error:
                if skip is None or not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    batch = [skip(batch[0], error)]
        if prepared and raw is None and len(batch) > 1:  # after the `except`, which keeps the batch in memory
            for item in batch:
                yield from self._run_batch([item], prepared_of, times, skip)
            return
        index = -1
        for item in batch:
            present = raw is not None and prepared_of(item) is not None
            index += present
            yield item, raw if present else None, index

    def decode(self, raw: RawPredictions, index: int, prepared: PreparedInput) -> Instances:
        """Decode picture `index` of a batch."""
        return self.instances(raw, index, resized=prepared.size, original=prepared.original)

    def instances(self, raw: RawPredictions, index: int, *, resized: Size, original: Size) -> Instances:
        """Decode picture `index`. resized: height and width within the padded input; original: of the picture
        itself."""
        decoded = self._decoder(raw, index, self._decoder_config)
        return to_instances(decoded, self.config, self.classes, score=self.score, resized=resized, original=original)

    def warm_up(self) -> None:
        """Run everything once on a small black picture, so that later timings have no first-time costs."""
        if self.config.head.reach:  # made for hundreds of objects
            numba_loops(MANY_MASKS)
        next(self.stream([np.zeros((64, 64, 3), np.uint8)], threads=0))


def decoding_thread(threads: int) -> AbstractContextManager[Executor | None]:
    """Return a pool of one thread that decodes, or None for no threads.

    Decoding takes hundreds of megabytes a picture, which the allocator keeps for each thread that ever did it; one
    thread keeps up with the network.
    """
    return worker_threads(min(threads, 1))


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` consecutive items; the last one may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
