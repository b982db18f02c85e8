"""Quantize a network to INT8, and compare it with float32.

    python tools/quantize.py --config=1 --images calibration
    python demo.py --config=1 --precision int8
    python tools/quantize.py --config=1 --images calibration --annotations val.json --pictures val
    python tools/quantize.py --onnx model.onnx --images calibration --output model_int8.onnx

Of a checkpoint, the INT8 network is written beside it, as NAME.int8; demo.py, eval.py, tools/benchmark.py and
`load_predictor` use it with the precision int8. OpenVINO runs the network on the pictures, which should resemble those
of its later use and need no annotations, and NNCF chooses the scales. Convolutions then compute in INT8. Group norms,
deformable convolutions and the last layers stay in float32, or in bfloat16 on processors with AMX, and the scores of
cells in float32. With annotations, layers are kept in float until the mask AP is at most --max-drop points lower (in
CenterMask2 only layers before its boxes).

Of a file of tools/export.py, --onnx writes another one, which is used like any other. ONNX Runtime runs it on the
pictures and chooses the scales. Everything except convolutions stays in float32, and without --all also the last ones.

The table compares both networks: with annotations their mask AP, without them the instances that both find in the
pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import argparse
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from config import load_config
from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData
from data.images import find_images, read_image
from data.written import check_output_files
from tools.common.cli import Parser, add_config_options, points, positive_number
from tools.common.config_table import align_columns
from tools.common.skipped import map_readable
from tools.deploy.comparison import check_readable, count_found, mask_summary, network_seconds, read_annotated, spread
from tools.deploy.exported import exported_predictor
from tools.deploy.onnx_quantization import quantize_exported
from tools.deploy.quantization import AccuracyControl, quantize_graphs
from tools.engine.compiled import CompiledEngine, compiled_graphs, network_fingerprint
from tools.engine.int8 import int8_path, write_int8
from tools.engine.select import unusable_reason
from tools.predict.load import build_predictor, network_source
from tools.predict.predictor import Predictor, PreparedInput

TIMED = 20  # pictures
COMPARED = 50  # pictures
MAX_DROP = 0.3  # points of mask AP


def main() -> int:
    parser = Parser(__doc__)
    add_config_options(parser)
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="checkpoint (default: weights/<config name>.pdparams)"
    )
    parser.add_argument("--onnx", metavar="FILE", type=Path, help="a file of tools/export.py instead of a checkpoint")
    parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help="for calibration: files, folders, globs",
    )
    parser.add_argument(
        "--limit", type=positive_number, default=300, metavar="N", help="of them at most (default: 300)"
    )
    parser.add_argument("--annotations", metavar="FILE", type=Path, help="COCO annotations for the mask AP")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="with --annotations: the folder of their pictures")
    parser.add_argument(
        "--max-drop", type=points, metavar="POINTS", help=f"of mask AP, with --annotations (default: {MAX_DROP})"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="with --onnx: the INT8 file")
    parser.add_argument("--all", action="store_true", help="with --onnx: quantize the last convolutions too")
    args = parser.parse_args()
    if bool(args.annotations) != bool(args.pictures):
        parser.error("--annotations and --pictures: give both or none")
    if args.max_drop is not None and not (args.annotations or args.onnx):
        parser.error("--max-drop: mask AP needs annotated pictures; add --annotations and --pictures")
    section = "eval_cfg" if args.annotations else "test_cfg"
    if args.onnx:
        _check_options(args, parser)
        networks = _quantize_exported(args, section)
    elif args.output or args.all:
        parser.error("--output and --all: are for --onnx")
    else:
        networks = _quantize_checkpoint(args, section)
    print(_comparison(networks))
    return 0


class Quantized(NamedTuple):
    """A network in both forms, and the pictures that it was calibrated with."""

    files: tuple[Path, Path]  # of float32 and of INT8
    predictors: tuple[Predictor, Predictor]
    paths: Sequence[Path]
    data: CocoData | None  # annotated pictures for the mask AP


def is_installed() -> bool:
    return importlib.util.find_spec("nncf") is not None and not unusable_reason("openvino")


def _check_options(args: argparse.Namespace, parser: Parser) -> None:
    """End the program if --onnx lacks its output, or is given with options that are for checkpoints."""
    if not args.output or args.output.suffix != ".onnx":
        parser.error("--onnx: add --output FILE.onnx")
    for name, option in (
        ("config", "--config"),
        ("weights", "--weights"),
        ("overrides", "-o"),
        ("max_drop", "--max-drop"),
    ):
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"{option}: is for checkpoints; leave it out with --onnx")


def _quantize_checkpoint(args: argparse.Namespace, section: str) -> Quantized:
    if not is_installed():
        raise InputError("quantization needs nncf and OpenVINO; pip install '.[int8]'")
    config = load_config(args.config, args.overrides)
    weights = Path(args.weights or config.model_path("test_cfg"))
    output = int8_path(weights)
    every = find_images(args.images)
    check_output_files([output], read=[weights, *every], kind="network")
    source = network_source(config, args.weights, overrides=args.overrides)
    data = _annotated(args, source.classes, weights)
    paths = _readable(every, args.limit, source.config)
    before = build_predictor(source, device="cpu", engine="openvino", section=section)
    graph_source = source.build, source.config, source.weights, *source.facts
    folder = compiled_graphs("openvino", *graph_source, apart=True)
    engine = CompiledEngine("openvino", "fp32", folder, source.config, apart=True, int8={})
    tried = Predictor(source.config, source.classes, engine, score=0.0, engine_name="openvino")
    max_drop = MAX_DROP if args.max_drop is None else args.max_drop
    control = AccuracyControl(lambda: mask_summary(tried, data)["AP"], max_drop / 100) if data else None
    write_int8(
        output,
        quantize_graphs(engine, folder, paths, lambda path: _prepare(path, before), before.pad, control),
        network_fingerprint(source.config, source.weights),
    )
    after = build_predictor(source, device="cpu", engine="openvino", precision="int8", section=section)
    print(f"wrote {output}, calibrated with {len(paths)} pictures")
    return Quantized((weights, output), (before, after), paths, data)


def _quantize_exported(args: argparse.Namespace, section: str) -> Quantized:
    if importlib.util.find_spec("onnx") is None:
        raise InputError("quantization of exported files needs the package onnx; pip install '.[export]'")
    every = find_images(args.images)
    check_output_files([args.output], read=[args.onnx, *every], kind="network")
    before = exported_predictor(args.onnx, section=section)
    data = _annotated(args, before.classes, args.onnx)
    paths = _readable(every, args.limit, before.config)
    count = quantize_exported(args.onnx, before, paths, args.output, keep_last=not args.all)
    after = exported_predictor(args.output, section=section)
    print(f"wrote {args.output}: {count} convolutions in INT8, calibrated with {len(paths)} pictures")
    return Quantized((args.onnx, args.output), (before, after), paths, data)


def _annotated(args: argparse.Namespace, classes: ClassList, network: Path) -> CocoData | None:
    return read_annotated(args.annotations, args.pictures, classes, network) if args.annotations else None


def _readable(every: Sequence[Path], limit: int, config: Config) -> list[Path]:
    """Return at most `limit` of the pictures, evenly spread, without those that cannot be read, which are named."""
    chosen = [every[place] for place in spread(len(every), limit)]
    return map_readable(lambda path: check_readable(path, config), chosen, title="reading")


def _prepare(path: Path, predictor: Predictor) -> PreparedInput:
    return predictor.prepare(read_image(path, predictor.config.data.stretch))


def _comparison(networks: Quantized) -> str:
    """Return a table of size and time of both networks, and of their mask AP or of what both find."""
    seconds = network_seconds(networks.predictors, networks.paths[:TIMED])
    if networks.data:
        titles = ["mask AP", "AP50"]
        summaries = [mask_summary(predictor, networks.data) for predictor in networks.predictors]
        figures = [[f"{summary[name] * 100:.2f}" for name in ("AP", "AP50")] for summary in summaries]
    else:
        titles = ["instances", "found of fp32's"]
        first, second = ([predictor(path) for path in networks.paths[:COMPARED]] for predictor in networks.predictors)
        counts = [sum(map(len, found)) for found in (first, second)]
        share = f"{sum(map(count_found, first, second)) / counts[0]:.1%}" if counts[0] else "none to find"
        figures = [[str(counts[0]), ""], [str(counts[1]), share]]
    rows = [["", "MB", "ms a picture", *titles]]
    for name, file, median, own in zip(("fp32", "int8"), networks.files, seconds, figures):
        rows.append([name, f"{file.stat().st_size / 1e6:.2f}", f"{median * 1000:.1f}", *own])
    return align_columns(rows)


if __name__ == "__main__":
    sys.exit(run(main))
