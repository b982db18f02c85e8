"""What runs a network: Paddle's dynamic graph, or a graph that is compiled from it once and kept."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
from paddle import nn

import model
from config.base import Config
from config.engines import ENGINES, PACKAGES
from config.errors import InputError
from model.layers import GroupNorm
from model.solov2 import RawPredictions
from tools.compiled import compiled, key_of

Engine = Callable[[np.ndarray], RawPredictions]  # float32 [N, 3, H, W] to tensors on the device

GRAPH = "network"  # name of the exported files
OPSET = 17


def choose_engine(name: str, precision: str, device: str) -> str:
    """The engine that `auto` stands for, or the one named. Raises InputError where it cannot do what is asked.

    On a CPU `auto` is the static graph; on a GPU the dynamic one, because there nothing has been measured.
    """
    on_gpu = device.startswith("gpu")
    if on_gpu and precision != "fp32":
        raise InputError(f"--precision {precision}: is for CPUs here; use --device cpu or --precision fp32")
    if name == "auto":
        name = "dynamic" if on_gpu else "static"
    if precision not in ENGINES[name]:
        able = " or ".join(engine for engine, precisions in ENGINES.items() if precision in precisions)
        raise InputError(f"--precision {precision}: engine {name} computes in {ENGINES[name][0]}; use --engine {able}")
    if precision == "bf16" and not paddle.base.core.supports_bfloat16():
        raise InputError("--precision bf16: this processor has no AVX-512, which it needs; use --precision fp32")
    if on_gpu and name in PACKAGES:
        raise InputError(f"--engine {name}: runs on CPUs here; use --device cpu, or --engine dynamic or static")
    missing = [package for package in PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"--engine {name}: needs {' and '.join(missing)}; pip install '.[{name}]'")
    return name


def dynamic_engine(network: nn.Layer) -> Engine:
    """The network itself, layer by layer."""

    def run(images: np.ndarray) -> RawPredictions:
        with paddle.no_grad():
            raw = network(paddle.to_tensor(images))
        if paddle.get_device().startswith("gpu"):
            paddle.device.synchronize()
        return raw

    return run


def compiled_engine(
    name: str, precision: str, build: Callable[[], nn.Layer], config: Config, weights: Mapping[str, np.ndarray], *facts
) -> Engine:
    """A compiled engine for these weights, from the cache of compiled networks where they are there already.

    build: gives the network, in evaluation mode, with the weights in it; called only where nothing is there yet. It is
    of no other use afterwards. facts: what the network depends on beside config and weights.
    """
    sections = (config.backbone, config.neck, config.mask_feat_head, config.head, config.num_classes)
    exchange = name in PACKAGES
    versions = paddle.__version__, _version_of("paddle2onnx") if exchange else ""
    key = key_of((exchange, versions, sections, facts), weights)
    made = []

    def make(folder: Path) -> None:
        network = build()  # which says in one line where the weights do not fit
        print(f"compiling {config.name} for --engine {name}, once ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        with _silence():
            export_static(network, folder / GRAPH, portable=exchange)
            if exchange:
                _to_onnx(folder)
        made.append(time.perf_counter() - start)

    folder = compiled(key, make)
    if made:
        print(f"... {made[0]:.0f} s; it is kept in {folder}", file=sys.stderr, flush=True)
    return _LOADERS[name](folder / GRAPH, precision)


def export_static(network: nn.Layer, path: Path, *, portable: bool) -> None:
    """Write the graph from pictures to raw predictions, for any number and size of pictures.

    portable: of operations that other programs know. The network must not be called afterwards: Paddle leaves it
    changed.
    """
    for layer in network.sublayers():
        if isinstance(layer, GroupNorm):
            layer.portable = portable
    # The networks have no branch that depends on data; translating their code would take most of the time.
    paddle.jit.ignore_module([model])
    images = paddle.static.InputSpec([None, 3, None, None], "float32", "images")
    paddle.jit.save(paddle.jit.to_static(network, input_spec=[images], full_graph=True), str(path))


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that libraries print in the block is seen; what goes wrong is said by exceptions."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(nothing.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in zip((1, 2), kept):
                os.dup2(original, number)
                os.close(original)


def threads_of_a_cpu() -> int:
    """As many as Paddle's dynamic graph takes: OMP_NUM_THREADS, by default the cores this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdecimal() and int(stated) else len(os.sched_getaffinity(0))


def _static_engine(path: Path, precision: str) -> Engine:
    from paddle import inference

    graph = next(path.with_suffix(suffix) for suffix in (".json", ".pdmodel") if path.with_suffix(suffix).exists())
    options = inference.Config(str(graph), str(path.with_suffix(".pdiparams")))
    options.disable_glog_info()
    device = paddle.get_device()
    if device.startswith("gpu"):
        options.enable_use_gpu(256, int(device.partition(":")[2]))
    else:
        options.disable_gpu()
        options.enable_mkldnn()
        options.set_cpu_math_library_num_threads(threads_of_a_cpu())
        if precision == "bf16":
            options.enable_mkldnn_bfloat16()
    predictor = inference.create_predictor(options)
    (input_name,) = predictor.get_input_names()
    names = predictor.get_output_names()

    def run(images: np.ndarray) -> RawPredictions:
        handle = predictor.get_input_handle(input_name)
        handle.reshape(images.shape)
        handle.copy_from_cpu(images)
        predictor.run()
        return RawPredictions(*(paddle.to_tensor(predictor.get_output_handle(name).copy_to_cpu()) for name in names))

    return run


def _to_onnx(folder: Path) -> None:
    import paddle2onnx

    graph = next(folder.glob(f"{GRAPH}.json"), folder / f"{GRAPH}.pdmodel")
    weights = folder / f"{GRAPH}.pdiparams"
    target = folder / f"{GRAPH}.onnx"
    paddle2onnx.export(str(graph), str(weights), str(target), opset_version=OPSET, optimize_tool="None")
    for path in folder.glob(f"{GRAPH}.*"):
        if path.suffix != ".onnx":
            path.unlink()


def _onnx_engine(path: Path, precision: str) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_of_a_cpu()
    options.log_severity_level = 3  # errors: it warns of each place where it could have done better
    session = onnxruntime.InferenceSession(
        str(path.with_suffix(".onnx")), options, providers=["CPUExecutionProvider"]
    )
    (images,) = session.get_inputs()
    return lambda pictures: RawPredictions(*map(paddle.to_tensor, session.run(None, {images.name: pictures})))


def _openvino_engine(path: Path, precision: str) -> Engine:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
    hints["INFERENCE_NUM_THREADS"] = threads_of_a_cpu()
    compiled_model = core.compile_model(str(path.with_suffix(".onnx")), "CPU", hints)

    def run(images: np.ndarray) -> RawPredictions:
        found = compiled_model(images)
        return RawPredictions(*(paddle.to_tensor(np.array(found[output])) for output in compiled_model.outputs))

    return run


_LOADERS = {"static": _static_engine, "onnx": _onnx_engine, "openvino": _openvino_engine}


def _version_of(package: str) -> str:
    return importlib.metadata.version(package)
