"""The command line that demo.py and tools/infer_onnx.py share: options, checks of the outputs, the summary."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

from config.base import PROJECT, Config
from config.errors import InputError, listed
from data.images import has_picture_suffix
from data.written import check_output_files, write_json
from tools.common.cli import Parser, fraction, natural_number, positive_number
from tools.common.skipped import print_note
from tools.predict.jobs import Jobs, plan_jobs, require_files
from tools.predict.picture_files import PictureFiles, drawings, label_maps, labelme_files, yolo_files
from tools.predict.pipeline import Report
from tools.predict.predictor import DEFAULT_THREADS, Predictor
from tools.predict.sources import Sources, find_sources
from tools.predict.tiles import MAX_OVERLAP, MIN_SIDE, OVERLAP, Tiling, network_side

NETWORK_SIDE = -1  # --tile without a number
SPREADSHEETS = (".xlsx", ".xls", ".ods")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder for the drawings (default: images/res)")
    parser.add_argument(
        "--score", type=fraction, help="leave out instances below it (default: the checkpoint's, else 0.3)"
    )
    parser.add_argument(
        "--threads",
        type=natural_number,
        default=DEFAULT_THREADS,
        help=f"worker threads for reading, decoding and writing (default: {DEFAULT_THREADS})",
    )
    parser.add_argument(
        "--tile",
        type=positive_number,
        nargs="?",
        const=NETWORK_SIDE,
        metavar="SIDE",
        help="cut pictures larger than this into tiles (default: the side that the network sees without reducing it)",
    )
    parser.add_argument(
        "--overlap",
        type=fraction,
        metavar="SHARE",
        help=f"with --tile: share of a tile's side that neighbours have in common (default: {OVERLAP})",
    )
    parser.add_argument("--every", type=positive_number, default=1, metavar="N", help="use one of N frames of a video")
    parser.add_argument(
        "--max-frames", type=positive_number, metavar="N", help="end each video, camera or stream after N frames"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write the instances as COCO results, or as lines if named .jsonl"
    )
    parser.add_argument("--polygons", action="store_true", help="with --json: add outlines as polygons")
    parser.add_argument(
        "--table", metavar="FILE", type=Path, help="write class, score, area, position, shape and intensity as CSV"
    )
    parser.add_argument(
        "--label-masks",
        metavar="DIR",
        type=Path,
        help="write PNGs of 16 bits with the number of each pixel's instance",
    )
    parser.add_argument(
        "--labelme", metavar="DIR", type=Path, help="write labelme files, in which the masks can be corrected"
    )
    parser.add_argument("--yolo", metavar="DIR", type=Path, help="write a data set of polygons in YOLO's format")
    parser.add_argument("--coco", metavar="FILE", type=Path, help="write a COCO annotation file of polygons")
    parser.add_argument("--no-draw", action="store_true", help="write no drawings")
    parser.add_argument("--stats", metavar="FILE", type=Path, help="write the times of all stages as JSON")


def parse_args(parser: Parser) -> argparse.Namespace:
    args = parser.parse_args()
    if args.polygons and not args.json:
        parser.error("--polygons: add --json FILE, to which they are written")
    if args.no_draw and args.output:
        parser.error("--output: cannot be combined with --no-draw")
    if args.overlap is not None and not args.tile:
        parser.error("--overlap: add --tile SIDE, whose tiles overlap")
    if args.overlap is not None and args.overlap > MAX_OVERLAP:
        parser.error(f"--overlap {args.overlap:g}: give {MAX_OVERLAP} or less")
    if args.tile and args.tile != NETWORK_SIDE and args.tile < MIN_SIDE:
        parser.error(f"--tile {args.tile}: give {MIN_SIDE} pixels or more")
    if args.tile and args.label_masks and find_spec("tifffile") is None:
        raise InputError("--label-masks: with --tile needs the package tifffile; pip install tifffile imagecodecs")
    if args.table and args.table.suffix.lower() in SPREADSHEETS:
        parser.error(f"--table {args.table}: is written as CSV, which spreadsheets open; name it {args.table.stem}.csv")
    if args.table and find_spec("skimage") is None:
        raise InputError("--table: measuring needs the package scikit-image; pip install scikit-image")
    return args


def read_inputs(args: argparse.Namespace, inputs: Sequence[str | Path]) -> Sources:
    """Return the pictures and videos of the inputs.

    Raises InputError as `find_sources` does, and for options of videos if there are none.
    """
    sources = find_sources(inputs, every=args.every, limit=args.max_frames)
    for option, is_given in (("--every", args.every > 1), ("--max-frames", args.max_frames)):
        if is_given and not sources.videos:
            raise InputError(f"{option}: is for videos, and none of the inputs is one; leave it out")
    return sources


def plan_outputs(args: argparse.Namespace, config: Config, sources: Sources, weights: str | Path) -> Jobs:
    """Return the work to do, as `plan_jobs`, after checking that all outputs can be written.

    sources, weights: what the program reads. Raises InputError if an output cannot be written, is one of them, or
    would overwrite a file that our programs did not write.
    """
    named = [("--json", args.json), ("--stats", args.stats), ("--table", args.table), ("--coco", args.coco)]
    for pair in combinations(named, 2):
        _check_different(*pair)
    for pair in combinations([(kind.option, kind.folder) for kind in picture_files(args, config)], 2):
        _check_different(*pair)
    files = [path for _, path in named if path]
    if pictures := [str(path) for path in files if has_picture_suffix(path)]:
        raise InputError(f"{listed(pictures)}: is named like a picture or a drawing; give another name")
    if args.coco:
        require_files("--coco", sources)
    results = [path for path in files if path != args.coco]
    read = [*sources.files(), weights]
    check_output_files(results, read=read)
    check_output_files([args.coco] if args.coco else [], read=read, kind="annotations")
    return plan_jobs(sources, picture_files(args, config))


def picture_files(args: argparse.Namespace, config: Config) -> list[PictureFiles]:
    """Return what the options want to be written of each picture, drawings last: a skipped picture leaves none."""
    wanted = (
        (partial(label_maps, large=bool(args.tile)), args.label_masks),
        (labelme_files, args.labelme),
        (yolo_files, args.yolo),
        (drawings, _drawings_folder(args, config)),
    )
    return [kind(folder) for kind, folder in wanted if folder]


def _check_different(first: tuple[str, Path | None], second: tuple[str, Path | None]) -> None:
    """Raise InputError if two options name the same file or folder."""
    (one, path), (other, other_path) = first, second
    if path and other_path and path.resolve() == other_path.resolve():
        raise InputError(f"{one} and {other}: both name {path}; give two names")


def output_options(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return the options of `add_options` that are keyword arguments of `predict_files`."""
    rows = {"results": args.json, "polygons": args.polygons, "table": args.table, "coco": args.coco}
    return {**rows, "files": picture_files(args, config), "tiling": tiling(args, config), "threads": args.threads}


def tiling(args: argparse.Namespace, config: Config) -> Tiling | None:
    """Return how large pictures are cut, None for not at all."""
    if not args.tile:
        return None
    side, seen = args.tile, network_side(config)
    if side == NETWORK_SIDE:
        side = seen
    if side > seen:
        print_note(f"--tile {side}: is reduced to {seen} pixels for this network; --tile {seen} keeps all pixels")
    return Tiling(side, OVERLAP if args.overlap is None else args.overlap)


def _drawings_folder(args: argparse.Namespace, config: Config) -> Path | None:
    """Return the folder of the drawings, None for no drawings."""
    return None if args.no_draw else Path(args.output or PROJECT / config.demo_output)


def report_run(args: argparse.Namespace, report: Report, predictor: Predictor, *, note: str = "") -> None:
    """Print a summary of a run of `predict_files` with a note, and write its times to --stats."""
    statistics = report.statistics()
    if args.stats:
        write_json(args.stats, statistics)
    unit = f"{report.unit}s"
    print(
        f"{report.pictures} {unit}, {report.instances} instances of score {predictor.score:g} or more, "
        f"{predictor.config.name} on {predictor.device}, {statistics['pictures_per_second']:.2f} {unit} per second"
    )
    print(report.times.table())
    if note:
        print(note)
    if args.table and report.empty_pictures:
        print(f"{report.empty_pictures} of the {unit} have no instances, and so no row in the table")
    outputs = {
        "drawings are": _drawings_folder(args, predictor.config),
        "label maps are": args.label_masks,
        "labelme files are": args.labelme,
        "YOLO data set is": args.yolo,
        "annotations are": args.coco,
        "results are": args.json,
        "table is": args.table,
    }
    for name, path in outputs.items():
        if path:
            print(f"The {name} in {path}")
