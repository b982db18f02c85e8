"""An exported network: what its file says about it, and how ONNX Runtime runs it. Needs no Paddle."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config import load_config
from config.base import Config
from config.errors import InputError
from config.overrides import differences
from data.class_lists import ClassList
from tools.common.kinds import kind_of
from tools.engine.onnx_graph import open_session
from tools.predict.mask_windows import Size
from tools.predict.postprocess import decode_exported
from tools.predict.predictor import Decode, Predictor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT_VERSION = 1
METADATA = "paddle_solo"  # the key in an ONNX file
IMAGES = "images"  # the name of a graph's input
NO_EXPORT = "{}: is no network of tools/export.py, which says what its classes are; export it with that"


@dataclass(frozen=True)
class Output:
    """One of the arrays that a graph gives; shape: known where that of its input is, else empty."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What travels with a graph. end_to_end: it gives instances, not raw predictions."""

    config: Config  # with `data.fixed_size` where the graph takes no other size
    classes: ClassList
    end_to_end: bool
    outputs: tuple[Output, ...]

    def to_json(self) -> str:
        data = self.config.data
        content = {
            "format_version": FORMAT_VERSION,
            "config": self.config.name,
            "number": self.config.number,
            "overrides": differences(self.config),
            "class_names": self.classes.names,
            "category_ids": self.classes.ids,
            "end_to_end": self.end_to_end,
            "outputs": [asdict(output) for output in self.outputs],
            # For programs that do not know our configs.
            "mean": data.mean,
            "std": data.std,
            "short_side": data.short_side,
            "long_side": data.long_side,
            "size_divisor": data.size_divisor,
            "bgr": data.bgr,
            "fixed_size": data.fixed_size,
        }
        return json.dumps(content)


def metadata_of(text: str, path: str | Path, overrides: Iterable[str] = ()) -> Metadata:
    """What `to_json` wrote, with the user's changes of the config.

    Raises InputError, which names the file, where it is something else, and for a change that only export can make.
    """
    try:
        content = json.loads(text)
        version = content["format_version"]
        classes = ClassList(tuple(map(str, content["class_names"])), tuple(map(int, content["category_ids"])))
        outputs = tuple(Output(o["name"], o["dtype"], tuple(map(int, o["shape"]))) for o in content["outputs"])
        name, stated, end_to_end = str(content["config"]), list(map(str, content["overrides"])), content["end_to_end"]
    except (ValueError, KeyError, TypeError):
        raise InputError(NO_EXPORT.format(path)) from None
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; update it")
    heads = "mask_feat_head.", "head.", "roi."
    inside = ("backbone.", "neck.", *heads, "data.fixed_size", *(("nms.",) if end_to_end else ()))
    for assignment in overrides:
        if assignment.startswith(inside):
            raise InputError(f"-o {assignment}: is decided in {path}; export it again with that")
    config = load_config(name, [*stated, *overrides]).replace(num_classes=len(classes))
    return Metadata(config, classes, bool(end_to_end), outputs)


def read_metadata(session: InferenceSession, path: str | Path, overrides: Iterable[str] = ()) -> Metadata:
    """The same of an ONNX file."""
    properties: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    return metadata_of(properties.get(METADATA, ""), path, overrides)


def open_exported(path: str | Path) -> InferenceSession:
    """Raises InputError where there is no ONNX Runtime, or it cannot read the file."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise InputError(f"{path}: onnxruntime, which runs it, is not installed; pip install onnxruntime")
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; python tools/export.py makes one")
    try:
        return open_session(Path(path))
    except Exception as error:  # its exceptions have no parent of their own
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: onnxruntime cannot read it ({reason}); export it again, or update it") from error


def exported_predictor(
    path: str | Path, *, overrides: Iterable[str] = (), score: float | None = None, section: str = "test_cfg"
) -> Predictor:
    """A predictor around an ONNX file of tools/export.py.

    Decoding is faster where `model` was imported ahead of numpy.
    overrides: assignments as after `-o`; score: instances below it are left out, None takes that of the
    config's `section`. Raises InputError as `open_exported` and `metadata_of` do.
    """
    session = open_exported(path)
    metadata = read_metadata(session, path, overrides)
    names = [output.name for output in metadata.outputs]
    config = metadata.config
    (images,) = session.get_inputs()
    if images.shape[0] == 1:
        sections = {name: replace(getattr(config, name), batch_size=1) for name in ("test_cfg", "eval_cfg")}
        config = config.replace(**sections)

    def run(batch: np.ndarray, sizes: Sequence[Size]) -> list[np.ndarray]:
        return session.run(names, {images.name: batch})

    return Predictor(
        config,
        metadata.classes,
        run,
        score=getattr(config, section).score if score is None else score,
        engine_name="onnx",
        decode=decoder_of(metadata),
    )


def predictor_of_options(args: argparse.Namespace, parser: argparse.ArgumentParser, section: str) -> Predictor:
    """The predictor of `args.model` beside the options of `add_network_options`, most of which exclude it."""
    if args.engine != "onnx":
        raise InputError(f"{args.model}: exported networks are run by --engine onnx; add it")
    for name in ("config", "weights", "untrained", "device", "precision"):
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name}: {args.model} brings its own; leave out one of them")
    return exported_predictor(args.model, overrides=args.overrides, section=section)


def decoder_of(metadata: Metadata) -> Decode:
    """Return the function that decodes a graph's outputs."""
    return decode_exported if metadata.end_to_end else kind_of(metadata.config).decode
