"""Compiled engines: graphs that are written once for a network, kept in the graph cache, and run by another program."""

from __future__ import annotations

import copy
import importlib.metadata
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from threading import Lock
from typing import Callable

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from config.base import Config
from config.engines import PACKAGES
from config.errors import InputError
from data.files import temporary_folder
from model.device import on_device
from tools.common.kinds import RawPredictions, Size, kind_of
from tools.common.memory import release_memory
from tools.engine.graph import Graph
from tools.engine.graph_cache import cached_graphs, fingerprint, key_of
from tools.engine.graph_writer import write_graph
from tools.engine.int8 import Int8Graph, int8_path, read_int8
from tools.engine.onnx_graph import load_onnx_graph
from tools.engine.openvino_graph import load_int8_graph, load_openvino_graph
from tools.engine.static_graph import load_static_graph

LOADERS: dict[str, Callable[..., Graph]] = {
    "static": load_static_graph,
    "onnx": load_onnx_graph,
    "openvino": load_openvino_graph,
}
NETWORK, TRUNK, SCORES, SECOND_STAGE = "network", "trunk", "scores", "second_stage"  # names of graphs


def compile_engine(
    name: str,
    precision: str,
    build: Callable[[], nn.Layer],
    config: Config,
    weights: Mapping[str, np.ndarray],
    *facts: object,
    checkpoint: Path | None = None,
    streams: int = 1,
) -> CompiledEngine:
    """Return a compiled engine for these weights, from the graph cache if it is there.

    build: returns the network, in evaluation mode, with the weights; called only if the cache has no graph of it, and
    not usable afterwards. facts: other things on which the network depends. checkpoint: the file of the weights, beside
    which the precision int8 has a network of tools/quantize.py. streams: as in CompiledEngine. Raises InputError if the
    network in INT8 is missing or another one's.
    """
    int8: dict[str, Int8Graph] = {}
    if precision == "int8":
        if checkpoint is None:
            raise InputError("precision int8: random weights have no INT8 network; give a checkpoint")
        weights_option = f"--weights {quote(str(checkpoint))}"
        command = f"python tools/quantize.py --config={config.number} {weights_option} --images FOLDER"
        graphs = [TRUNK, SECOND_STAGE] if kind_of(config).second_stage_inputs(config) else [TRUNK]
        int8 = read_int8(int8_path(checkpoint), graphs, network_fingerprint(config, weights), command=command)
    apart = precision != "fp32"
    folder = compiled_graphs(name, build, config, weights, *facts, apart=apart)
    return CompiledEngine(name, precision, folder, config, apart=apart, int8=int8, streams=streams)


def compiled_copy(name: str, network: nn.Layer, config: Config) -> CompiledEngine:
    """Return a compiled engine with the weights that a network in evaluation mode has now.

    The network can be trained further, and nothing is kept on the disk.
    """
    with temporary_folder() as folder:
        _write_graphs(copy.deepcopy(network), config, folder, portable=name in PACKAGES, apart=False)
        return CompiledEngine(name, "fp32", folder, config, apart=False, int8={})


def network_fingerprint(config: Config, weights: Mapping[str, np.ndarray]) -> str:
    """Return a text that differs for other weights or settings of a network."""
    return fingerprint(_sections(config), weights)


def _sections(config: Config) -> tuple[object, ...]:
    """Return what the graphs of a network depend on."""
    return config.backbone, config.neck, config.mask_feat_head, config.head, config.roi, config.num_classes


def compiled_graphs(
    name: str,
    build: Callable[[], nn.Layer],
    config: Config,
    weights: Mapping[str, np.ndarray],
    *facts: object,
    apart: bool,
) -> Path:
    """Return the folder in the graph cache with the graphs of a network, after writing them if they are not there.

    apart: its scores as a graph of their own. Other arguments as in `compile_engine`.
    """
    portable = name in PACKAGES
    versions = paddle.__version__, importlib.metadata.version("paddle2onnx") if portable else ""
    key = key_of((portable, apart, versions, _sections(config), facts), weights)
    seconds = []

    def write(folder: Path) -> None:
        network = build()  # raises InputError if the weights do not fit, before anything is printed
        print(f"compiling {config.name} for the engine {name}, once ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        _write_graphs(network, config, folder, portable=portable, apart=apart)
        seconds.append(time.perf_counter() - start)

    folder = cached_graphs(key, write)
    if seconds:
        release_memory()  # compiling needs several times the memory of the network
        print(f"... {seconds[0]:.0f} s; it is kept in {folder}", file=sys.stderr, flush=True)
    return folder


def _write_graphs(network: nn.Layer, config: Config, folder: Path, *, portable: bool, apart: bool) -> None:
    """Write the graphs of a network. apart: its scores as a graph of their own."""
    kind = kind_of(config)
    second_stage = kind.second_stage(network)
    images = InputSpec([None, 3, None, None], "float32", "images")
    if apart:
        write_graph(_Trunk(network), [images], folder / TRUNK, portable=portable)
        write_graph(_Scores(network), [kind.score_features(config)], folder / SCORES, portable=portable)
    else:
        write_graph(network, [images], folder / NETWORK, portable=portable)
    if second_stage is not None:
        write_graph(second_stage, kind.second_stage_inputs(config), folder / SECOND_STAGE, portable=portable)


class CompiledEngine:
    """Runs the graphs of a network that `compiled_graphs` wrote into a folder, and those in INT8 that replace some.

    In a lower precision the network is two graphs, and the second, which computes the scores, stays in float32: points
    NMS would keep both of two neighbours that are equal in few bits.

    streams: how many threads may call it at a time, each with its share of the cores; 1 with the engine static, which
    has one set of inputs and outputs.
    """

    def __init__(
        self,
        name: str,
        precision: str,
        folder: Path,
        config: Config,
        *,
        apart: bool,
        int8: Mapping[str, Int8Graph],
        streams: int = 1,
    ) -> None:
        shared = {} if name == "static" else {"streams": streams}

        def load(graph: str, precision: str) -> Graph:
            if graph in int8:
                return load_int8_graph(int8[graph], **shared)
            return LOADERS[name](folder / graph, "fp32" if precision == "int8" else precision, **shared)

        self._completing = Lock()  # a second stage runs operations of Paddle
        self.config = config
        self.kind = kind_of(config)
        self._apart = apart
        self.main = load(TRUNK if apart else NETWORK, precision)
        self._scores = load(SCORES, "fp32") if apart else None
        self._score_features = len(self.kind.score_features(config))
        self._second_stage = None
        if self.kind.second_stage_inputs(config):
            self._second_stage = load(SECOND_STAGE, precision)

    def __call__(self, images: np.ndarray, sizes: Sequence[Size]) -> RawPredictions:
        """Return the raw predictions of a batch when they are computed.

        images: float32 [N, 3, H, W]; sizes: height and width of each picture within it.
        """
        raw = self.run_first_stage(images)
        with self._completing:
            return self.kind.complete(raw, sizes, self.config, self.run_second_stage)

    def run_first_stage(self, images: np.ndarray) -> list[np.ndarray] | list[Tensor]:
        """Return what the network's `forward` returns: arrays on a CPU, tensors on a GPU."""
        raw = self.main([images])
        if self._scores is not None:
            raw = [*self._scores(raw[: self._score_features]), *raw[self._score_features :]]
        # Paddle's inference library returns arrays of a GPU too; the plain decoder takes them back there.
        return raw if paddle.get_device() == "cpu" else [on_device(part) for part in raw]

    @property
    def has_second_stage(self) -> bool:
        return self._second_stage is not None

    def run_second_stage(self, features: Tensor, classes: np.ndarray) -> tuple[Tensor, ...]:
        assert self._second_stage is not None  # only a kind that has one calls this
        return tuple(on_device(array) for array in self._second_stage([features.numpy(), classes]))


class _Trunk(nn.Layer):
    """A network without its scores; all outputs in a row."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        score_features, mask_inputs = self.network.trunk(images)
        return (*score_features, *mask_inputs)


class _Scores(nn.Layer):
    """The scores of a network from what its trunk returns."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, score_features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        return self.network.scores(score_features)
