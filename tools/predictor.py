"""Pictures in, instances out: what the demo, the evaluation and users' own programs call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Union

import numpy as np
import paddle

from config import load_config, registry
from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList, read_class_list
from data.images import read_image
from data.preprocess import pad_to_batch, preprocess
from model.centermask2 import Detected, detect
from model.device import select_device
from model.grid_network import Raw
from model.networks import build_model
from tools.checkpoint import Checkpoint, load_checkpoint, load_weights
from tools.engines import choose_engine, compiled_engine, dynamic_engine
from tools.findings import find
from tools.graphs import threads_of_a_cpu
from tools.instances import Instances
from tools.pipeline import StageTimes, ordered_map, worker_threads

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
    raw: Raw | list[Detected] | None  # None where there was no picture
    index: int


class Predictor:
    """A network with its weights, and the steps before and after it.

        predictor = Predictor(config=2, weights="weights/solov2_light_r50_vd_fpn_dcn_512_3x.pdparams")
        instances = predictor(image)

    config: number or name of a config, or a Config. overrides: assignments as after `-o`.
    weights: a checkpoint of ours; None takes the one that the config's `section` names; `untrained` (a seed) takes
    random weights.
    score: instances below it are left out; None takes the config's.
    engine, precision: what runs the network and in which arithmetic; see tools.engines.
    Raises InputError where something does not exist or does not fit.
    """

    def __init__(
        self,
        config: int | str | Config,
        weights: str | Path | None = None,
        *,
        overrides: Iterable[str] = (),
        untrained: int | None = None,
        score: float | None = None,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "fp32",
        section: str = "test_cfg",
    ) -> None:
        self.device = select_device(device)
        self.config = load_config(config, overrides)
        self.engine_name = choose_engine(engine, precision, self.device, deformable=self.config.deformable)
        if untrained is None:
            path = Path(weights or self._default_weights(section))
            checkpoint = load_checkpoint(path)
            self.classes = checkpoint.classes
            if not self.classes:
                raise InputError(f"{path} holds a backbone to start training from; give a whole network's checkpoint")
            self.config = load_config(checkpoint.adapt(self.config), overrides)
            build = partial(self._trained_network, checkpoint, path)
            weights, facts = checkpoint.weights, ()
        else:
            self.classes = read_class_list(self.config.classes_file)
            self.config = self.config.replace(num_classes=len(self.classes))
            build = partial(untrained_network, self.config, untrained)
            weights, facts = {}, ("untrained", untrained)
        if self.engine_name == "dynamic":
            self.engine = dynamic_engine(build())
        else:
            self.engine = compiled_engine(self.engine_name, precision, build, self.config, weights, *facts)
        self.score = self.config.test_cfg.score if score is None else score
        self._pool = _decoding_pool()

    @classmethod
    def around(cls, network: paddle.nn.Layer, config: Config, classes: ClassList, *, score: float) -> Predictor:
        """The same steps for a network that is there already, on the device that is selected already."""
        predictor = cls.__new__(cls)
        predictor.device = paddle.get_device()
        predictor.config = config
        predictor.classes = classes
        predictor.engine_name = "dynamic"
        predictor.engine = dynamic_engine(network)
        predictor.score = score
        predictor._pool = _decoding_pool()
        return predictor

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

    def run(self, batch: Sequence[Prepared]) -> Raw | list[Detected]:
        """The network on a batch; tensors stay on its device. Returns when they are there."""
        images = pad_to_batch([prepared.input for prepared in batch], self.config.data.size_divisor)
        raw = self.engine(images)
        if self.engine.rois is None:
            return raw
        return detect(raw, [prepared.input.shape[:2] for prepared in batch], self.config, self.engine.rois)

    def warm_up(self) -> None:
        """Run everything once on a small empty picture, so that what is timed afterwards has no first-time costs."""
        prepared = self.prepare(np.zeros((64, 64, 3), np.uint8))
        self.finish(self.run([prepared]), 0, prepared)

    def finish(self, raw: Raw | list[Detected], index: int, prepared: Prepared) -> Instances:
        """Decode picture `index` of a batch."""
        found = find(
            raw,
            index,
            self.config,
            self.score,
            resized=prepared.input.shape[:2],
            original=prepared.original_size,
            parallel=self._pool.map,
        )
        classes = self.classes
        return Instances.from_windows(
            prepared.original_size,
            found.windows,
            found.scores,
            found.classes,
            classes.names,
            classes.ids,
            found.detected,
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

    def _trained_network(self, checkpoint: Checkpoint, path: Path) -> paddle.nn.Layer:
        network = build_model(self.config)
        made_for = self._name_with_number(checkpoint.config_name)
        load_weights(network, checkpoint.weights, path=path, config_name=self.config.name, made_for=made_for)
        network.eval()
        return network

    @staticmethod
    def _name_with_number(config_name: str) -> str:
        numbers = {kind.name: number for number, kind in registry().items()}
        return f"{numbers[config_name]} ({config_name})" if config_name in numbers else config_name

    def _default_weights(self, section: str) -> Path:
        path = self.config.model_path(section)
        if not path.exists():
            ways = [f"python {p.convert} FILE --config={self.config.number} ({p.where})" for p in self.config.published]
            remedy = f"convert a published one first: {' or '.join(ways)}"
            if not ways:
                remedy = f"python train.py --config={self.config.number} makes one, --weights FILE takes another"
            raise InputError(f"{path}: no such checkpoint; {remedy}")
        return path


def decoding_thread(threads: int) -> AbstractContextManager[Executor | None]:
    """The one thread that decodes, none for no threads.

    Decoding takes hundreds of megabytes a picture, which the allocator keeps for each thread that ever did it; one
    thread keeps up with the network.
    """
    return worker_threads(min(threads, 1))


def _decoding_pool() -> ThreadPoolExecutor:
    """Threads that share the parts of one picture's decoding; they end with the predictor."""
    return ThreadPoolExecutor(threads_of_a_cpu(), thread_name_prefix="decoding")


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


def untrained_network(config: Config, seed: int) -> paddle.nn.Layer:
    """Random weights under which some cells pass the score threshold, so that every step has something to do."""
    paddle.seed(seed)
    network = build_model(config)
    network.head.cate_pred.weight.set_value(network.head.cate_pred.weight * 2.0)
    if config.head.finds_boxes:  # boxes of some strides, and masks that may be right
        for layer, bias in ((network.head.box_pred, 3.0), (network.roi_head.iou_head.pred, 1.0)):
            layer.bias.set_value(paddle.full_like(layer.bias, bias))
    # SOLO's masks begin far below the threshold; the product of two probabilities needs more than a half of each.
    for name, bias in (("mask_preds", 0.0), ("x_preds", 1.0), ("y_preds", 1.0)):
        for layer in getattr(network.head, name, ()):
            layer.bias.set_value(paddle.full_like(layer.bias, bias))
    network.eval()
    return network
