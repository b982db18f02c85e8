"""What demo.py and tools/infer_onnx.py have in common: their options, and what they do with pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from config.base import PROJECT, Config
from config.errors import InputError
from data.files import check_writable, write_json
from tools.common.cli import Parser, fraction, natural_number
from tools.predict.pipeline import Report, predict_files
from tools.predict.predictor import DEFAULT_THREADS, EnginePredictor

UNTRAINED = "The network is UNTRAINED: its weights are random, and what it draws means nothing."


def add_demonstration_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="folder for the drawings (default: images/res)")
    parser.add_argument("--score", type=fraction, help="leave out instances below it (default: the config's, 0.3)")
    parser.add_argument("--threads", type=natural_number, default=DEFAULT_THREADS, help="threads beside the network")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found as COCO results")
    parser.add_argument("--polygons", action="store_true", help="with --json: outlines as polygons too")
    parser.add_argument("--no-draw", action="store_true", help="write no drawings")
    parser.add_argument("--stats", metavar="FILE", type=Path, help="write the times as JSON")


def parse(parser: Parser) -> argparse.Namespace:
    args = parser.parse_args()
    if args.polygons and not args.json:
        parser.error("--polygons: add --json FILE, which they are written to")
    if args.no_draw and args.output:
        parser.error("--output: without a meaning beside --no-draw")
    return args


def demonstrate(
    args: argparse.Namespace,
    config: Config,
    paths: Sequence[Path],
    weights: str | Path,
    make: Callable[[], EnginePredictor],
    *notes: str,
) -> int:
    """Draw what the predictor that `make` gives finds in pictures, and print a summary with the notes at its end.

    weights: the file that the predictor reads.
    """
    drawings = None if args.no_draw else Path(args.output or PROJECT / config.test_pre_path)
    written = [path for path in (args.json, args.stats) if path]
    if len({path.resolve() for path in written}) < len(written):
        raise InputError(f"--json and --stats: both name {args.json}; give two names")
    for path in written:
        check_writable(path, read=[*paths, weights])
    if drawings:
        check_writable(drawings / "drawing.jpg")
    predictor = make()
    report = predict_files(
        predictor, paths, drawings=drawings, results=args.json, polygons=args.polygons, threads=args.threads
    )
    if args.stats:
        write_json(args.stats, report.statistics())
    print(*_summary(report, predictor), *notes, sep="\n")
    if drawings is not None:
        print(f"The drawings are in {drawings}")
    return 0


def _summary(report: Report, predictor: EnginePredictor) -> list[str]:
    speed = report.statistics()["pictures_per_second"]
    lines = [
        f"{report.pictures} pictures, {report.instances} instances of score {predictor.score:g} or more, "
        f"{predictor.config.name} on {predictor.device}, {speed:.2f} pictures per second",
        report.times.table(),
    ]
    if report.problems:
        lines.insert(0, f"{len(report.problems)} pictures were skipped, see above")
    return lines
