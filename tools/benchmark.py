"""Time the stages of prediction on a folder of pictures, from reading a file to a COCO results file.

    python tools/benchmark.py --config=1 --images photos
    python tools/benchmark.py --config=0,1 --images photos --untrained=0 --candidates=1300 --vs dynamic openvino:bf16

By default the stages run one after another, so that each is timed without the others; --threads 4 times the pipeline of
demo.py instead. The table has the median and 95th percentile of each stage in milliseconds per picture, and the share
of all stages except the network. Decoding time grows with the number of candidates: pairs of a place and a class above
nms.score_thr, of which the table shows the median. With random weights that number is arbitrary, unless --candidates
sets the threshold so that the first picture has this many.

GFLOP counts the convolutions of the network for the first picture, two operations for a multiplication with its
addition. It is compared with a peak that the same run measures on a CPU: 3x3 convolutions of 256 channels at 64 x 64 by
the static engine in the same precision, int8 in fp32, the fastest of ten runs. Each line of the table comes from its
own process, so that its memory is the most used while predicting; compiling, once, uses more. A line that cannot be
measured is named and left out; the exit status is then 2.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import argparse
import json
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Callable, cast

import numpy as np
import paddle

from config import load_config
from config.base import Config
from config.engines import ENGINES
from config.errors import InputError
from data.files import temporary_folder
from data.images import ImageError, encode_image, find_images, read_image
from data.written import check_output_files, write_drawing, write_json, write_output
from model.decode.loops import MANY_MASKS, numba_loops
from model.device import select_device
from model.startup import CPU_THREADS, CPUINFO
from tools.common.cli import (
    Parser,
    add_network_options,
    config_of,
    fraction,
    natural_number,
    network_options,
    positive_number,
)
from tools.common.kinds import NetworkKind, RawPredictions, build_network
from tools.common.memory import peak_memory, reset_peak_memory
from tools.engine.operations import measured_peak, network_operations
from tools.engine.select import choose_engine, has_ungrouped_deformable
from tools.predict.benchmark_figures import format_csv, format_table, plot, ratios
from tools.predict.jobs import plan_jobs
from tools.predict.load import load_predictor
from tools.predict.pipeline import predict_files
from tools.predict.predictor import Predictor, streams_for


def main() -> int:
    parser = Parser(__doc__)
    add_network_options(parser)
    parser.add_argument(
        "--images", nargs="+", action="extend", required=True, metavar="PATH", help="files, folders, globs"
    )
    parser.add_argument("--limit", type=positive_number, metavar="N", help="take the first N pictures only")
    parser.add_argument(
        "--candidates",
        type=positive_number,
        metavar="N",
        help="set nms.score_thr for N candidates in picture 1",
    )
    parser.add_argument("--score", type=fraction, default=0.0, help="leave out instances below it (default: 0)")
    parser.add_argument("--threads", type=natural_number, default=0, help="worker threads (default: 0)")
    parser.add_argument(
        "--streams",
        type=positive_number,
        metavar="N",
        help="with --threads: pictures that the network runs on at a time (default: as many as in demo.py)",
    )
    parser.add_argument(
        "--vs",
        nargs="+",
        default=[],
        type=engine_and_precision,
        metavar="ENGINE[:PRECISION]",
        help="time other engines too, in fp32 or another precision, and print the ratios",
    )
    for name, what in (("json", "all figures"), ("csv", "the table"), ("plot", "bars of the stages")):
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write {what} of all lines")
    args = parser.parse_args()
    if args.streams and args.streams > max(args.threads, 1):
        parser.error(f"--streams: add --threads {args.streams} or more")
    paths = find_images(args.images)[: args.limit]
    if args.plot:
        encode_image(args.plot, np.zeros((1, 1, 3), np.uint8))  # raises InputError for a suffix of no format
    outputs = [path for path in (args.json, args.csv, args.plot) if path]
    check_output_files(outputs, read=[*paths, *filter(None, [args.weights])])
    configs = str(args.config).split(",")
    if args.weights and len(configs) > 1:
        raise InputError("--weights: is for one config, not for several")
    for config in configs:
        _check_engines(args, load_config(config, args.overrides))  # mistakes are reported before the first is timed
    lines = lines_of(configs, args.engine, args.precision, args.vs)
    rows = [_measure(args, paths)] if len(lines) == 1 else [_measure_apart(args, *line) for line in lines]
    if not (figures := [row for row in rows if row]):
        return InputError.status
    print(f"{_machine()}, Paddle {paddle.__version__}, {args.threads} threads")
    print(format_table(figures))
    for first in range(0, len(rows), 1 + len(args.vs)):
        one, *others = rows[first : first + 1 + len(args.vs)]
        print(*(f"{ratios(one, other)}\n" for other in others if one and other), sep="", end="")
    if args.json:
        write_json(args.json, figures)
    if args.csv:
        with write_output(args.csv) as temporary:
            temporary.write_text(format_csv(figures), encoding="utf-8")
    if args.plot:
        write_drawing(args.plot, plot(figures))
    return InputError.status if len(figures) < len(rows) else 0


def _check_engines(args: argparse.Namespace, config: Config) -> None:
    """Raise InputError if a config would be timed twice with one engine and precision."""
    deformable = has_ungrouped_deformable(config)
    engine = choose_engine(args.engine, args.precision, select_device(args.device), deformable=deformable)
    every = [(engine, args.precision), *args.vs]
    if twice := next((pair for place, pair in enumerate(every) if pair in every[:place]), None):
        raise InputError(f"--vs {':'.join(twice)}: is timed already; give other engines or precisions")


def engine_and_precision(text: str) -> tuple[str, str]:
    """Parse ENGINE or ENGINE:PRECISION."""
    engine, _, precision = text.partition(":")
    if engine not in ENGINES or (precision or "fp32") not in ENGINES[engine]:
        able = [f"{name}:{one}" for name, precisions in ENGINES.items() for one in precisions]
        raise argparse.ArgumentTypeError(f"{text!r}: expected one of {', '.join(able)}")
    return engine, precision or "fp32"


def lines_of(
    configs: Sequence[str], engine: str, precision: str, others: Sequence[tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """Return (config, engine, precision) of each line of the table, each config before its comparisons."""
    return [(config, *pair) for config in configs for pair in [(engine, precision), *others]]


def _measure(args: argparse.Namespace, paths: Sequence[Path]) -> dict[str, object]:
    """Return the figures of one line of the table, measured in this process."""
    config = config_of(args)
    streams = args.streams or streams_for(len(paths), args.threads)
    predictor = load_predictor(config, **network_options(args), score=args.score, streams=streams)
    if args.candidates:
        _let_pass(args.candidates, predictor, paths)
    numba_loops(MANY_MASKS)  # their loading is not the time of a picture
    reset_peak_memory()
    candidates: list[int] = []
    threshold, engine = predictor.config.nms.score_thr, cast(Any, predictor.engine)
    engine.kind = _WatchedKind(engine.kind, lambda scores: candidates.append(int((scores > threshold).sum())))
    with temporary_folder() as folder:
        report = predict_files(predictor, plan_jobs(paths), results=folder / "results.json", threads=args.threads)
    memory = peak_memory()
    statistics = report.statistics()
    totals = {stage: row["total"] for stage, row in statistics["milliseconds"].items()}
    network = totals.pop("network")
    return {
        "config": config.name,
        "device": predictor.device,
        "engine": predictor.engine_name,
        "precision": args.precision,
        "paddle": paddle.__version__,
        "machine": _machine(),
        "threads": args.threads,
        "streams": predictor.streams,
        "candidates": median(candidates[1:]),  # without the warm-up
        **statistics,
        "share_beside_network": sum(totals.values()) / (sum(totals.values()) + network),
        "peak_memory_mib": memory,
        **_arithmetic(predictor, paths, statistics["milliseconds"]["network"]["median"], args.precision),
    }


def _let_pass(count: int, predictor: Predictor, paths: Sequence[Path]) -> None:
    """Set the score threshold so that this many scores of the first picture exceed it."""
    first: list[np.ndarray] = []
    engine = cast(Any, predictor.engine)
    kind, engine.kind = engine.kind, _WatchedKind(engine.kind, first.append)
    engine(*_first_input(predictor, paths))
    engine.kind = kind
    descending = -np.sort(-first[0], axis=None)
    if count >= (most := np.count_nonzero(descending)):
        found = f"picture 1 has only {most} scores above 0 in {predictor.config.name}"
        raise InputError(f"--candidates {count}: {found}; give a smaller number")
    nms = replace(predictor.config.nms, score_thr=float(descending[count]))
    predictor.use_config(predictor.config.replace(nms=nms))
    engine.config = predictor.config  # CenterMask2 chooses its boxes between two parts of the network


class _WatchedKind:
    """A kind of network that also shows the scores of each picture, [places, classes], before they are decoded."""

    def __init__(self, kind: NetworkKind, watch: Callable[[np.ndarray], object]) -> None:
        self.kind = kind
        self.watch = watch

    def complete(self, raw: RawPredictions, *rest: Any) -> RawPredictions:
        for scores in np.asarray(raw[0]):
            self.watch(scores)
        return self.kind.complete(raw, *rest)


def _machine() -> str:
    """Return the processor's name and the number of cores that networks use."""
    described = CPUINFO.read_text() if CPUINFO.exists() else ""
    name = re.search(r"^model name\s*: (.*)$", described, re.MULTILINE)
    return f"{name[1] if name else platform.machine()}, {CPU_THREADS} cores"


def _arithmetic(predictor: Predictor, paths: Sequence[Path], milliseconds: float, precision: str) -> dict[str, float]:
    """Return the GFLOP of the network for the first readable picture, and on a CPU the share of the peak."""
    network = build_network(predictor.config)
    images, _ = _first_input(predictor, paths)
    network.eval()
    operations = network_operations(network, predictor.config, *images.shape[2:])
    figures = {"gflop": operations / 1e9}
    if predictor.device == "cpu":
        peak = measured_peak(precision)
        figures["peak_gflop_per_second"] = peak / 1e9
        figures["share_of_peak"] = operations / (milliseconds / 1000) / peak
    return figures


def _first_input(predictor: Predictor, paths: Sequence[Path]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the network's input for the first picture that can be read, float32 [1, 3, H, W], and its size there."""
    reason = None
    for path in paths:
        try:
            prepared = predictor.prepare(read_image(path, predictor.config.data.stretch))
            return predictor.pad([prepared]), [prepared.size]
        except ImageError as error:
            reason = error
    raise InputError(f"none of {len(paths)} pictures could be read; of the last one: {reason}")


def _measure_apart(args: argparse.Namespace, config: str, engine: str, precision: str) -> dict[str, object] | None:
    """Return the figures of one line of the table, measured in another process; None if it has printed a mistake."""
    with temporary_folder() as folder:
        target = folder / "figures.json"
        options = {"config": config, "engine": engine, "precision": precision, "device": args.device, "json": target}
        for name in ("candidates", "score", "threads", "streams", "limit", "untrained", "weights"):
            options[name] = getattr(args, name)
        command = [f"--{name}={value}" for name, value in options.items() if value is not None]
        for override in args.overrides:
            command += ["-o", override]
        command = [sys.executable, __file__, *command, "--images", *args.images]
        # Ctrl-C then reaches this process alone, which ends the other.
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, start_new_session=True)
        if done.returncode == InputError.status:
            return None
        if done.returncode:
            sys.exit(done.returncode)
        (figures,) = json.loads(target.read_text())
    return figures


if __name__ == "__main__":
    sys.exit(run(main))
