"""Build predictors from checkpoints, random weights, or a network that is there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import paddle

from config import load_config, registry
from config.base import Config
from config.engines import PACKAGES
from config.errors import InputError
from data.class_lists import ClassList, describe_changes, read_class_list
from data.coco import read_categories
from model.device import select_device
from model.startup import CPU_THREADS
from tools.common.checkpoint import Checkpoint, load_checkpoint, load_weights
from tools.common.kinds import build_network, kind_of
from tools.common.processes import refuse_after_fork
from tools.common.skipped import print_note
from tools.engine.compiled import compile_engine, compiled_copy
from tools.engine.dynamic import DynamicEngine
from tools.engine.select import choose_engine, has_ungrouped_deformable
from tools.predict.arguments import check_running
from tools.predict.predictor import Engine, Predictor

COMPILED_FROM = 20  # pictures: compiling a network takes a second or two, less than it saves for them


def load_predictor(
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
    streams: int = 1,
) -> Predictor:
    """Return a predictor for a checkpoint.

    config: number or name of a config, or a Config. overrides: a list of assignments as after `-o`.
    weights: a checkpoint of this project; None takes the one that the config's `section` names, "test_cfg" or
    "eval_cfg". untrained: a seed, for random weights instead.
    score: from 0 to 1; instances below it are left out; None takes the score of the config's `section`.
    device: "auto", "cpu", "gpu", "gpu:1" ... engine, precision: what runs the network and in which arithmetic, "auto"
    or one of config/engines.py. streams: batches that the engines onnx and openvino run at a time, each on its share of
    the cores, at most as many as cores; more pictures per second, later results of a single one, and more memory.
    Raises config.errors.InputError if something does not exist or does not fit. Import this module before numpy: it
    sets the number of numpy's threads, which decoding depends on.
    """
    _check_source(weights, untrained, device)
    overrides = check_running(overrides, section, streams)
    config = load_config(config, overrides)
    source = network_source(config, weights, overrides=overrides, untrained=untrained, section=section)
    return build_predictor(
        source, section=section, score=score, device=device, engine=engine, precision=precision, streams=streams
    )


def build_predictor(
    source: NetworkSource,
    *,
    section: str = "test_cfg",
    score: float | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "fp32",
    streams: int = 1,
) -> Predictor:
    """Return a predictor for a network; arguments and errors are those of `load_predictor`."""
    refuse_after_fork()
    config, device = source.config, select_device(device)
    engine = choose_engine(engine, precision, device, deformable=has_ungrouped_deformable(config))
    streams = min(streams, CPU_THREADS) if engine in PACKAGES else 1
    if engine == "dynamic":
        run: Engine = DynamicEngine(source.build(), config)
    else:
        graph_source = source.build, config, source.weights, *source.facts
        run = compile_engine(engine, precision, *graph_source, checkpoint=source.checkpoint, streams=streams)
    score = getattr(config, section).score if score is None else score
    return Predictor(config, source.classes, run, score=score, engine_name=engine, device=device, streams=streams)


def _check_source(weights: object, untrained: object, device: object) -> None:
    """Raise InputError for arguments of `load_predictor` of another type or value."""
    if weights is not None and untrained is not None:
        raise InputError("weights and untrained: give one of them")
    if not isinstance(weights, (str, Path, type(None))) or weights == "":
        raise InputError(f"weights={weights!r}: expected the path of a checkpoint")
    if untrained is not None and not (isinstance(untrained, (int, np.integer)) and 0 <= untrained < 2**63):
        raise InputError(f"untrained={untrained!r}: expected a seed, an integer from 0 to 2^63 - 1")
    if not isinstance(device, str):
        raise InputError(f"device={device!r}: expected 'auto', 'cpu' or 'gpu'")


def network_predictor(
    network: paddle.nn.Layer, config: Config, classes: ClassList, *, score: float, pictures: int = 1
) -> Predictor:
    """Return a predictor for a network, in evaluation mode, on the device that is selected.

    pictures: how many it will get. For many of them, a CPU runs a compiled copy of the network, if onnx or openvino is
    installed; the predictor then keeps the weights of now.
    """
    device = paddle.get_device()
    name = choose_engine("auto", "fp32", device, deformable=has_ungrouped_deformable(config))
    if pictures < COMPILED_FROM or name not in PACKAGES:
        name = "dynamic"
    engine: Engine = DynamicEngine(network, config) if name == "dynamic" else compiled_copy(name, network, config)
    return Predictor(config, classes, engine, score=score, engine_name=name, device=device)


class NetworkSource(NamedTuple):
    """A network that can be built from a checkpoint or from a seed."""

    config: Config  # with the changes that the weights need
    classes: ClassList
    build: Callable[[], paddle.nn.Layer]  # returns it in evaluation mode; raises InputError if weights do not fit
    weights: Mapping[str, np.ndarray]  # of the checkpoint
    facts: tuple  # other things on which the network depends
    checkpoint: Path | None = None  # its file


def network_source(
    config: Config,
    weights: str | Path | None,
    *,
    overrides: Sequence[str] = (),
    untrained: int | None = None,
    section: str = "test_cfg",
) -> NetworkSource:
    """Return the network that the arguments of `load_predictor` describe. Raises InputError as that does."""
    if untrained is not None:
        # As in a training: those of the annotations, unless the config has a list of its own.
        of_list = config.lists_its_classes
        classes = read_class_list(config.classes_file) if of_list else read_categories(config.train_path)
        config = config.replace(num_classes=len(classes))
        build = partial(untrained_network, config, untrained)
        return NetworkSource(config, classes, build, {}, ("untrained", untrained))
    path = Path(_default_weights(config, section) if weights is None else weights)
    checkpoint = load_checkpoint(path)
    if not checkpoint.classes:
        raise InputError(f"{path} contains only a backbone to start training from; give the checkpoint of a network")
    _check_classes(checkpoint, config, overrides, path)
    if weights is not None and checkpoint.config_name != config.name:
        made_for = _name_with_number(checkpoint.config_name)
        print_note(f"{path}: was made for config {made_for} and runs with the settings of {config.name}")
    try:
        adapted = checkpoint.adapt(config)
    except InputError as error:
        raise InputError(f"{path}: its settings do not fit config {config.name}; {error}") from None
    config = load_config(adapted, overrides)
    build = partial(_trained_network, config, checkpoint, path)
    return NetworkSource(config, checkpoint.classes, build, checkpoint.weights, (), path)


def _check_classes(checkpoint: Checkpoint, config: Config, overrides: Sequence[str], path: Path) -> None:
    """Raise InputError if an override names a list of other classes than those of the checkpoint, which count."""
    if any(text.partition("=")[0].strip() == "classes_path" for text in overrides):
        changes = describe_changes(checkpoint.classes.names, read_class_list(config.classes_file).names)
        if changes:
            raise InputError(f"classes_path: {path} has classes of its own: {changes}; leave classes_path out")


def _trained_network(config: Config, checkpoint: Checkpoint, path: Path) -> paddle.nn.Layer:
    network = build_network(config)
    remedy = f"use --config={_name_with_number(checkpoint.config_name)}, which it was made for"
    if checkpoint.config_name == config.name:
        remedy = "it was made for this config: leave out -o, or undo what has changed in the config's file since"
    load_weights(network, checkpoint.weights, path=path, config_name=config.name, remedy=remedy)
    network.eval()
    return network


def _name_with_number(config_name: str) -> str:
    numbers = {kind.name: number for number, kind in registry().items()}
    return f"{numbers[config_name]} ({config_name})" if config_name in numbers else config_name


def _default_weights(config: Config, section: str) -> Path:
    path = config.model_path(section)
    if not path.exists():
        ways = list(dict.fromkeys(one.download_command(config.number) for one in config.published))
        remedy = f"convert a published one first: {' or '.join(ways)}"
        if not ways:
            known = registry().get(config.number) is type(config)
            remedy = f"python train.py --config={config.number} makes one, --weights FILE takes another"
            remedy = remedy if known else "give the file of its weights"
        raise InputError(f"{path}: no such checkpoint; {remedy}")
    return path


def untrained_network(config: Config, seed: int) -> paddle.nn.Layer:
    """Return a network, in evaluation mode, with random weights under which some instances pass the thresholds."""
    paddle.seed(seed)
    network = build_network(config)
    kind_of(config).raise_scores(network)
    network.eval()
    return network
