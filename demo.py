"""Find the instances in pictures and draw them.

    python demo.py --config=0                          the pictures in images/test, drawings in images/res
    python demo.py --config=2 --input photos 'more/*.jpg' --output drawn --json found.json
    python demo.py --list                              all configs, and where their checkpoints are published
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `run` takes over: Ctrl-C during the imports ends in silence

from config.base import PROJECT  # noqa: E402
from config.errors import InputError  # noqa: E402
from data.files import check_writable  # noqa: E402
from data.images import find_images  # noqa: E402
from tools.cli import Parser, add_network_options, config_of, fraction, natural_number, network_options, run  # noqa: E402
from tools.folder_prediction import Report, predict_files, write_json  # noqa: E402
from tools.prediction import DEFAULT_THREADS  # noqa: E402
from tools.predictor import Predictor  # noqa: E402


def main() -> int:
    parser = Parser(__doc__)
    add_network_options(parser)
    parser.add_argument("--input", nargs="+", metavar="PATH", help="files, folders, globs (default: images/test)")
    parser.add_argument("--output", metavar="DIR", help="folder for the drawings (default: images/res)")
    parser.add_argument("--score", type=fraction, help="leave out instances below it (default: the config's, 0.3)")
    parser.add_argument("--threads", type=natural_number, default=DEFAULT_THREADS, help="threads beside the network")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found as COCO results")
    parser.add_argument("--polygons", action="store_true", help="with --json: outlines as polygons too")
    parser.add_argument("--no-draw", action="store_true", help="write no drawings")
    parser.add_argument("--stats", metavar="FILE", type=Path, help="write the times as JSON")
    args = parser.parse_args()
    if args.polygons and not args.json:
        parser.error("--polygons: add --json FILE, which they are written to")
    if args.no_draw and args.output:
        parser.error("--output: without a meaning beside --no-draw")
    config = config_of(args)
    paths = find_images(args.input or [PROJECT / config.test_path])
    drawings = None if args.no_draw else Path(args.output or PROJECT / config.test_pre_path)
    for path in filter(None, (args.json, args.stats, drawings and drawings / "drawing.jpg")):
        check_writable(path)
    predictor = Predictor(config, **network_options(args), score=args.score)
    report = predict_files(
        predictor, paths, drawings=drawings, results=args.json, polygons=args.polygons, threads=args.threads
    )
    if args.stats:
        write_json(args.stats, report.statistics())
    print(_summary(report, predictor, drawings, untrained=args.untrained is not None))
    if not report.pictures:
        raise InputError(f"none of {len(paths)} pictures could be read; see the reasons above")
    return 0


def _summary(report: Report, predictor: Predictor, drawings: Path | None, *, untrained: bool) -> str:
    speed = report.statistics()["pictures_per_second"]
    lines = [
        f"{report.pictures} pictures, {report.instances} instances of score {predictor.score:g} or more, "
        f"{predictor.config.name} on {predictor.device}, {speed:.2f} pictures per second",
        report.times.table(),
    ]
    if report.problems:
        lines.insert(0, f"{len(report.problems)} pictures were skipped, see above")
    if untrained:
        lines.append("The network is UNTRAINED: its weights are random, and what it draws means nothing.")
    if drawings is not None and report.pictures:
        lines.append(f"The drawings are in {drawings}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
