"""Time the stages of prediction on a folder of pictures, from reading a file to a COCO results file.

    python tools/benchmark.py --config=1 --images photos
    python tools/benchmark.py --config=1 --images photos --untrained=0 --json times.json

By default the stages run one after another, so that none is timed while another one uses the processor; --threads 4
times the pipeline of demo.py instead. Each stage's median, 95th percentile and total are milliseconds a picture.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from config.errors import InputError  # noqa: E402
from data.images import find_images  # noqa: E402
from model import paddle  # noqa: E402
from tools.cli import Parser, add_network_options, config_of, natural_number, network_options, positive_number, run  # noqa: E402
from tools.folder_prediction import predict_files, write_json  # noqa: E402
from tools.memory import peak_memory  # noqa: E402
from tools.predictor import Predictor  # noqa: E402


def main() -> int:
    parser = Parser(__doc__)
    add_network_options(parser)
    parser.add_argument("--images", nargs="+", required=True, metavar="PATH", help="files, folders, globs")
    parser.add_argument("--limit", type=positive_number, metavar="N", help="take the first N pictures only")
    parser.add_argument("--threads", type=natural_number, default=0, help="threads beside the network (default: 0)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    config = config_of(args)
    paths = find_images(args.images)[: args.limit]
    predictor = Predictor(config, **network_options(args), score=0.0)
    with tempfile.TemporaryDirectory() as folder:
        report = predict_files(predictor, paths, results=Path(folder) / "results.json", threads=args.threads)
    if not report.pictures:
        raise InputError(f"none of {len(paths)} pictures could be read; see the reasons above")
    totals = {stage: row["total"] for stage, row in report.times.summary().items()}
    network = totals.pop("network", 0.0)
    figures = {
        "config": config.name,
        "device": predictor.device,
        "paddle": paddle.__version__,
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        **report.statistics(),
        "share_beside_network": sum(totals.values()) / network if network else 0.0,
        "peak_memory_mib": peak_memory(),
    }
    print(
        f"{config.name} on {predictor.device}, Paddle {paddle.__version__}, {args.threads} threads: "
        f"{report.pictures} pictures, {figures['pictures_per_second']:.2f} a second, {report.instances} instances"
    )
    print(report.times.table())
    print(f"everything but the network: {figures['share_beside_network']:.1%} of the network's time")
    print(f"peak memory: {figures['peak_memory_mib']:.0f} MiB")
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
