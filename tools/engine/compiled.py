"""What runs a network: Paddle's dynamic graph, or a graph that is compiled from it once and kept."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from config.base import Config
from config.engines import ENGINES, FASTEST, FASTEST_DEFORMABLE, PACKAGES
from config.errors import InputError
from config.networks import BOX_STRIDES
from model.centermask2 import RoIs
from model.decoding import Raw
from tools.common.memory import release_memory
from tools.engine.graph_cache import compiled, key_of
from tools.engine.graph_writer import GRAPHS, write_graph

NETWORK, TRUNK, SCORES, ROIS = "network", "trunk", "scores", "rois"  # names of graphs


@dataclass(frozen=True)
class Engine:
    """Called with float32 [N, 3, H, W] it gives raw predictions, where decoding is to find them.

    These are tensors on the device, but what a compiled graph gives on a CPU, whose decoding is numpy's, are arrays.

    rois: what makes masks of the boxes that were found, of networks that find boxes first.
    """

    network: Callable[[np.ndarray], Raw]
    rois: RoIs | None = None

    def __call__(self, images: np.ndarray) -> Raw:
        return self.network(images)


def choose_engine(name: str, precision: str, device: str, *, deformable: bool) -> str:
    """The engine that `auto` stands for, or the one named. Raises InputError where it cannot do what is asked.

    deformable: whether the network has deformable convolutions, none of them in groups. On a CPU `auto` is the fastest
    of what is installed; on a GPU the dynamic graph where that has the precision, because there nothing has been
    measured.
    """
    on_gpu = device.startswith("gpu")
    if precision == "int8":
        raise InputError(
            "--precision int8: such a network is made with the help of pictures; tools/export.py and "
            "tools/quantize_onnx.py write it, eval.py --engine onnx FILE and tools/infer_onnx.py run it"
        )
    if on_gpu and precision == "bf16":
        raise InputError("--precision bf16: is for CPUs here; use --device cpu, or --precision fp16 or fp32")
    if not on_gpu and precision == "fp16":
        raise InputError("--precision fp16: is for GPUs; use --precision bf16 or fp32")
    if name == "auto" and on_gpu:
        name = "dynamic" if precision == "fp32" else "static"
    elif name == "auto":
        name = _fastest(precision, deformable=deformable)
    if precision not in ENGINES[name]:
        able = " or ".join(engine for engine, precisions in ENGINES.items() if precision in precisions)
        raise InputError(f"--precision {precision}: engine {name} computes in {ENGINES[name][0]}; use --engine {able}")
    if precision == "bf16" and not paddle.base.core.supports_bfloat16():
        raise InputError("--precision bf16: this processor has no AVX-512, which it needs; use --precision fp32")
    if precision == "bf16" and name == "static" and paddle.__version__.startswith("2."):
        raise InputError(
            "--precision bf16: its results are wrong in Paddle 2 with --engine static; install Paddle 3 or use "
            "--precision fp32"
        )
    if on_gpu and name in PACKAGES:
        raise InputError(f"--engine {name}: runs on CPUs here; use --device cpu, or --engine dynamic or static")
    if reason := _unusable(name):
        raise InputError(f"--engine {name}: {reason}")
    return name


def _fastest(precision: str, *, deformable: bool) -> str:
    names = FASTEST_DEFORMABLE if deformable else FASTEST
    return next(name for name in names if precision in ENGINES[name] and not _unusable(name))


def _unusable(name: str) -> str:
    """Why an engine cannot be used with what is installed, and what to do; nothing where it can."""
    packages = PACKAGES.get(name, ())
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)}; pip install '.[{name}]'"
    if packages and (reason := foreign_translator()):
        return f"{reason}; install Paddle 3, or use --engine static"
    return ""


def foreign_translator() -> str:
    """Why paddle2onnx, which is installed, cannot be used with this Paddle; nothing where it can."""
    translator = importlib.metadata.version("paddle2onnx")
    if paddle.__version__.startswith("2.") and translator.startswith("2."):
        return f"paddle2onnx {translator} is for Paddle 3"
    return ""


def dynamic_engine(network: nn.Layer) -> Engine:
    """The network itself, layer by layer."""

    def run(images: np.ndarray) -> Raw:
        with paddle.no_grad():
            raw = network(paddle.to_tensor(images))
        if paddle.get_device().startswith("gpu"):
            paddle.device.synchronize()
        return raw

    roi_head = getattr(network, "roi_head", None)
    if roi_head is None:
        return Engine(run)
    return Engine(run, lambda features, classes: roi_head(features, paddle.to_tensor(classes)))


def compiled_engine(
    name: str, precision: str, build: Callable[[], nn.Layer], config: Config, weights: Mapping[str, np.ndarray], *facts
) -> Engine:
    """A compiled engine for these weights, from the cache of compiled networks where they are there already.

    build: gives the network, in evaluation mode, with the weights in it; called only where nothing is there yet. It is
    of no other use afterwards. facts: what the network depends on beside config and weights.

    In a lower precision the network is two graphs, and the second, which makes the scores, computes in float32: of
    neighbours that are equal in few bits points-NMS would keep both.
    """
    sections = (config.backbone, config.neck, config.mask_feat_head, config.head, config.roi, config.num_classes)
    portable, apart = name in PACKAGES, precision != "fp32"
    versions = paddle.__version__, importlib.metadata.version("paddle2onnx") if portable else ""
    key = key_of((portable, apart, versions, sections, facts), weights)
    made = []

    def make(folder: Path) -> None:
        network = build()  # which says in one line where the weights do not fit
        print(f"compiling {config.name} for --engine {name}, once ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        images = InputSpec([None, 3, None, None], "float32", "images")
        if apart:
            write_graph(_Trunk(network), [images], folder / TRUNK, portable=portable)
            write_graph(_Scores(network), [_map_specs(config)], folder / SCORES, portable=portable)
        else:
            write_graph(network, [images], folder / NETWORK, portable=portable)
        if config.head.finds_boxes:
            write_graph(network.roi_head, _roi_specs(config), folder / ROIS, portable=portable)
        made.append(time.perf_counter() - start)

    folder = compiled(key, make)
    if made:
        release_memory()  # what compiling needed is several times the network's size
        print(f"... {made[0]:.0f} s; it is kept in {folder}", file=sys.stderr, flush=True)
    load = GRAPHS[name]
    rois = None
    if config.head.finds_boxes:
        masks = load(folder / ROIS, precision)
        rois = lambda features, classes: _tensors(masks([features.numpy(), classes]))  # noqa: E731
    # Boxes are cut out of feature maps by Paddle.
    given = _tensors if config.head.finds_boxes or paddle.get_device() != "cpu" else tuple
    if not apart:
        whole = load(folder / NETWORK, precision)
        return Engine(lambda images: given(whole([images])), rois)
    count = len(_map_specs(config))
    trunk, scores = load(folder / TRUNK, precision), load(folder / SCORES, "fp32")

    def run(images: np.ndarray) -> Raw:
        found = trunk([images])
        maps, rest = found[:count], found[count:]
        return given([*scores(maps), *rest])

    return Engine(run, rois)


def _tensors(arrays: Iterable[np.ndarray]) -> tuple[Tensor, ...]:
    """On the selected device; on a CPU without a copy where Paddle can, for it takes as long as some layers do."""
    if paddle.get_device() == "cpu":
        return tuple(paddle.utils.dlpack.from_dlpack(array.__dlpack__()) for array in arrays)
    return tuple(map(paddle.to_tensor, arrays))


class _Trunk(nn.Layer):
    """A network but for its scores, with all that it returns in a row."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps, parts = self.network.trunk(images)
        return (*maps, *parts)


class _Scores(nn.Layer):
    """The scores of a network from what its trunk returns."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, maps: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        return self.network.scores(maps)


def _map_specs(config: Config) -> list[InputSpec]:
    """Of what scores are made of, as the network's trunk returns it."""
    sides = config.head.num_grids
    if config.head.finds_boxes:
        sides = [None] * 2 * len(BOX_STRIDES)  # of both towers
    channels = config.head.channels
    return [InputSpec([None, channels, side, side], "float32", f"level{i}") for i, side in enumerate(sides)]


def _roi_specs(config: Config) -> list[InputSpec]:
    side = config.roi.size
    features = InputSpec([None, config.neck.out_channels, side, side], "float32", "features")
    return [features, InputSpec([None], "int64", "classes")]
