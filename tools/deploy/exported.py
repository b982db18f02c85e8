"""Exported networks: the metadata in their files, and a predictor that runs them in ONNX Runtime, without Paddle."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from config import load_config, registry
from config.base import Config
from config.errors import InputError, listed, printable, shorten
from config.overrides import differences, foreign_to_networks, override, with_network
from config.values import is_list_of
from data.class_lists import ClassList
from data.files import as_path, open_regular
from data.images import has_picture_suffix
from model.startup import CPU_THREADS
from tools.common.kinds import kind_of
from tools.common.output_sides import side_lengths
from tools.common.processes import refuse_after_fork
from tools.engine.onnx_graph import open_session
from tools.predict.arguments import check_running
from tools.predict.mask_windows import Size
from tools.predict.postprocess import decode_exported
from tools.predict.predictor import Decode, Predictor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# 1: the overrides are differences from the config of that name. 2: they are differences from the defaults of `Config`:
# an exported network stays what it is when its config's file changes.
FORMAT_VERSION = 2
METADATA = "paddle_solo"  # the key in an ONNX file
IMAGES = "images"  # the name of a graph's input
# Fields of `data` that the metadata also has one by one, for programs that do not know our configs.
_FOR_OTHERS = ("stretch", "mean", "std", "short_side", "long_side", "size_divisor", "bgr", "fixed_size")
DTYPES = ("float32", "int64", "uint8")  # of outputs
FOREIGN_CHECKPOINTS = (".pth", ".pt", ".pkl", ".tar")
NO_EXPORT = "{}: was not written by tools/export.py (no class names in its metadata); export the network with it"


@dataclass(frozen=True)
class Output:
    """An output of a graph. shape: known if the shape of its input is, else empty."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """The metadata of a graph. end_to_end: its outputs are instances, not raw predictions."""

    config: Config  # with `data.fixed_size` where the graph takes no other size
    classes: ClassList
    end_to_end: bool
    outputs: tuple[Output, ...]

    def to_json(self) -> str:
        content = {
            "format_version": FORMAT_VERSION,
            "config": self.config.name,
            "number": self.config.number,
            "overrides": differences(self.config, Config()),
            "class_names": self.classes.names,
            "category_ids": self.classes.ids,
            "end_to_end": self.end_to_end,
            "outputs": [asdict(output) for output in self.outputs],
            **{key: getattr(self.config.data, key) for key in _FOR_OTHERS},
        }
        return json.dumps(content)


def metadata_of(text: str, path: str | Path, overrides: Iterable[str] = ()) -> Metadata:
    """Read the text that `to_json` wrote, and apply the user's changes of the config.

    Raises InputError if the text of the file `path` is something else, and for changes that only export can make.
    """
    content = _parse(text, path)
    classes = ClassList(tuple(content["class_names"]), tuple(content["category_ids"]))
    outputs = tuple(Output(o["name"], o["dtype"], tuple(o["shape"])) for o in content["outputs"])
    if foreign := foreign_to_networks(content["overrides"]):
        raise InputError(f"{path}: its metadata sets {listed(foreign)}, not part of a network; export it again")
    config = _config_of(content, path).replace(num_classes=len(classes))
    metadata = Metadata(config, classes, content["end_to_end"], outputs)
    _check_outputs(metadata, [output.shape for output in outputs] if config.data.fixed_size else [], path)
    inside = ["backbone.", "neck.", "mask_feat_head.", "head.", "roi.", "data.fixed_size", "classes_path"]
    if metadata.end_to_end:
        inside.append("nms.")
    if config.data.fixed_size:
        inside += ["data.short_side", "data.long_side"]
    for assignment in overrides:
        if assignment.strip().startswith(tuple(inside)):
            raise InputError(f"-o {assignment}: is decided in {path}; export it again with that")
    return replace(metadata, config=override(config, overrides))


def _config_of(content: dict[str, Any], path: str | Path) -> Config:
    """Return the config of metadata. Raises InputError if it cannot be read from there or from the files of configs."""
    name, number = content["config"], content.get("number")
    is_here = name in {config_class.name for config_class in registry().values()}  # it may be gone
    named = load_config(name) if is_here else None
    try:
        if content["format_version"] == 1:
            return load_config(name, content["overrides"])
        gone = Config().replace(name=name, number=number if type(number) is int else 0)
        config = with_network(named or gone, content["overrides"])
    except ValueError as error:
        reason = shorten(str(error))
        raise InputError(f"{path}: its metadata is of no network of this program ({reason}); export it again") from None
    stated = json.loads(json.dumps({key: getattr(config.data, key) for key in _FOR_OTHERS}))
    if wrong := [key for key, value in stated.items() if content.get(key) != value]:
        raise InputError(f"{path}: {listed(wrong)} of its metadata contradict its overrides; export it again")
    return config


def _parse(text: str, path: str | Path) -> dict[str, Any]:
    """Return the content of metadata. Raises InputError if an item is missing or has another type."""
    foreign = InputError(NO_EXPORT.format(path))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # the latter: thousands of brackets
        raise foreign from None
    if not isinstance(content, dict) or type(content.get("format_version")) is not int:
        raise foreign
    if content["format_version"] not in (1, FORMAT_VERSION):
        raise InputError(f"{path}: has another format version than this program's, {FORMAT_VERSION}; update it")
    invalid = [key for key, is_valid in _CONTENT.items() if not is_valid(content.get(key))]
    if invalid or len(content["class_names"]) != len(content["category_ids"]):
        raise InputError(f"{path}: its metadata has invalid {', '.join(invalid) or 'category_ids'}; export it again")
    return content


def _are_category_ids(value: Any) -> bool:
    return is_list_of(value, int) and len(set(value)) == len(value)


def _is_output(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and value.get("dtype") in DTYPES
        and is_list_of(value.get("shape"), int)
    )


_CONTENT: dict[str, Callable[[Any], bool]] = {
    # Programs name folders by it.
    "config": lambda value: isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,199}", value) is not None,
    "overrides": lambda value: is_list_of(value, str),
    "class_names": lambda value: is_list_of(value, str) and len(value) > 0,
    "category_ids": lambda value: _are_category_ids(value),
    "end_to_end": lambda value: isinstance(value, bool),
    "outputs": lambda value: isinstance(value, list) and all(map(_is_output, value)),
}


def _check_outputs(
    metadata: Metadata, shapes: Iterable[Sequence[object]], path: str | Path, batch: int | None = None
) -> None:
    """Raise InputError if the outputs of a graph are not those of the network in its metadata.

    shapes: of the outputs; sides that are no integers are not known. batch: pictures in the input, if they are known.
    """
    kind, config = kind_of(metadata.config), metadata.config
    outputs = kind.instance_outputs if metadata.end_to_end else kind.raw_outputs(config)
    found = [output.name for output in metadata.outputs]
    if found != list(outputs):
        raise InputError(
            f"{path}: has the outputs {listed(found)}, the network in its metadata ({config.head.kind}) has "
            f"{listed(list(outputs)) or 'none'}; export it again"
        )
    lengths = side_lengths(config, kind.mask_strides(config))
    if batch is not None:
        lengths["batch"] = batch
    for name, shape, sides in zip(outputs, shapes, map(str.split, outputs.values())):
        known = [(side, length) for side, length in zip(sides, shape) if isinstance(length, int)]
        expected = [int(side) if side.isdecimal() else lengths.setdefault(side, length) for side, length in known]
        if len(shape) != len(sides) or [length for _, length in known] != expected:
            stated = " x ".join(str(lengths.get(side, side)) for side in sides)
            raise InputError(
                f"{path}: its output {name} has the shape {' x '.join(map(str, shape))}, the network in its metadata "
                f"{stated}; export it again"
            )


def _check_values(metadata: Metadata, shape: tuple[int, ...], outputs: Sequence[np.ndarray], path: str | Path) -> None:
    """Raise InputError if a graph's outputs for an input of this shape cannot be those of the network."""
    if not all(np.isfinite(output).all() for output in outputs):
        raise InputError(f"{path}: gives values that are not finite numbers, its weights are damaged; export it again")
    sized = override(metadata.config, [f"data.fixed_size={shape[2:]}"])
    _check_outputs(replace(metadata, config=sized), [output.shape for output in outputs], path, shape[0])
    scores = outputs[[output.name for output in metadata.outputs].index("scores")]
    is_share = kind_of(metadata.config).has_grids  # CenterMask2's are multiplied by an estimated IoU
    if scores.size and is_share and not 0 <= scores.min() <= scores.max() <= 1:
        raise InputError(f"{path}: gives scores from {scores.min():g} to {scores.max():g}, not 0 to 1; export it again")


def read_metadata(session: InferenceSession, path: str | Path, overrides: Iterable[str] = ()) -> Metadata:
    """Read the metadata of an ONNX file, and apply the user's changes of the config.

    Raises InputError as `metadata_of` does, and if the metadata belongs to another graph.
    """
    properties: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    metadata = metadata_of(properties.get(METADATA, ""), path, overrides)
    shapes = {output.name: output.shape for output in session.get_outputs()}
    _check_outputs(metadata, [shapes.get(output.name, ()) for output in metadata.outputs], path)
    inputs = [(images.name, *images.shape[2:]) for images in session.get_inputs()]
    size = metadata.config.data.fixed_size
    if [tuple(side for side in sides if side == IMAGES or isinstance(side, int)) for sides in inputs] != [
        (IMAGES, *size)
    ]:
        raise InputError(f"{path}: its inputs {inputs} are not those in its metadata, {IMAGES} {size}; export it again")
    return metadata


def open_exported(path: str | Path, *, streams: int = 1) -> InferenceSession:
    """Open an exported network; streams: threads that run it at a time.

    Raises InputError if ONNX Runtime is not installed or cannot read the file.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise InputError(f"{path}: onnxruntime, which runs it, is not installed; pip install onnxruntime")
    try:
        open_regular(path).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); python tools/export.py makes one") from None
    try:
        return open_session(Path(path), streams=streams)
    except Exception as error:  # its exceptions have no parent of their own
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: onnxruntime cannot read it ({reason}); export it again, or update it") from error


def check_order(model: Path, pictures: Iterable[str | Path]) -> None:
    """Raise InputError if a command line has a picture in the place of the network, or a network among the pictures."""
    remedy = "give the network first, then the pictures"
    for picture in pictures:
        if Path(picture).suffix.lower() == ".onnx":
            raise InputError(f"{picture}: is a network in the place of a picture; {remedy}")
    check_kind(model, pictures=remedy, checkpoint="export it with tools/export.py")


def check_kind(model: Path, *, pictures: str, checkpoint: str) -> None:
    """Raise InputError for something else than a network in its place.

    pictures, checkpoint: remedies for pictures or a folder, and for weights.
    """
    if has_picture_suffix(model) or model.is_dir():
        what = "folder" if model.is_dir() else "picture"
        raise InputError(f"{model}: is a {what} in the place of the network; {pictures}")
    if model.suffix.lower() == ".pdparams":
        raise InputError(f"{model}: is a checkpoint, not an exported network; {checkpoint}")
    if model.suffix.lower() in FOREIGN_CHECKPOINTS:
        what = "is named like a checkpoint of another program"
        raise InputError(f"{model}: {what}; convert it with a script of convert/")


def exported_predictor(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    score: float | None = None,
    section: str = "test_cfg",
    streams: int = 1,
) -> Predictor:
    """Return a predictor for an ONNX file written by tools/export.py.

    overrides: assignments as after `-o`. score: instances below it are left out; None takes the score of the config's
    `section`. streams: as in `load_predictor`. Raises InputError as `open_exported` and `metadata_of` do. Decoding is
    faster if `model.startup` was imported before numpy.
    """
    refuse_after_fork()
    overrides = check_running(overrides, section, streams)
    path = as_path(path)
    streams = min(streams, CPU_THREADS)
    session = open_exported(path, streams=streams)
    metadata = read_metadata(session, path, overrides)
    names = [output.name for output in metadata.outputs]
    config = metadata.config
    (images,) = session.get_inputs()
    if images.shape[0] == 1:
        if batches := [text for text in overrides if text.partition("=")[0].strip().endswith("_cfg.batch_size")]:
            raise InputError(f"-o {batches[0]}: {path} takes one picture at a time; leave it out")
        sections = {name: replace(getattr(config, name), batch_size=1) for name in ("test_cfg", "eval_cfg")}
        config = config.replace(**sections)

    checked: set[tuple[int, ...]] = set()  # shapes of inputs: damaged weights and graphs affect every picture

    def run(batch: np.ndarray, sizes: Sequence[Size]) -> list[np.ndarray]:
        outputs = session.run(names, {images.name: batch})
        if batch.shape not in checked:
            _check_values(metadata, batch.shape, outputs, path)
            checked.add(batch.shape)
        return outputs

    return Predictor(
        config,
        metadata.classes,
        run,
        score=getattr(config, section).score if score is None else score,
        engine_name="onnx",
        decode=decoder_of(metadata),
        streams=streams,
    )


def predictor_of_options(args: argparse.Namespace, parser: argparse.ArgumentParser, section: str) -> Predictor:
    """Return the predictor for `args.model`. Raises InputError for options of `add_network_options` against it."""
    remedies = {"pictures": "give pictures with --images", "checkpoint": "give it with --weights"}
    check_kind(Path(args.model), **remedies)
    if args.engine != "onnx":
        raise InputError(f"{args.model}: exported networks need --engine onnx; add it")
    for name in ("config", "weights", "untrained", "device", "precision"):
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name}: {args.model} brings its own; leave out one of them")
    predictor = exported_predictor(args.model, overrides=args.overrides, section=section)
    if section == "eval_cfg":
        warn_of_defaults(predictor.config, args.model)
    return predictor


def warn_of_defaults(config: Config, path: str | Path) -> None:
    """Say on stderr that an evaluation has default settings, if the config of the network in `path` is gone."""
    if type(config) is Config:
        name = printable(config.name)
        print(f"{path}: there is no config {name}; eval_cfg and paths have their defaults", file=sys.stderr)


def decoder_of(metadata: Metadata) -> Decode:
    """Return the function that decodes a graph's outputs."""
    return decode_exported if metadata.end_to_end else kind_of(metadata.config).decode
