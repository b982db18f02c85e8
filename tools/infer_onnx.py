"""Find the instances in pictures with an exported network, in ONNX Runtime and without Paddle.

Examples:
    python tools/export.py --config=20 --output shapes.onnx
    python tools/infer_onnx.py shapes.onnx images/test --output drawn --json found.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from tools.common.cli import Parser
from tools.deploy.exported import check_order, exported_predictor
from tools.predict.demo_options import (
    add_demo_options,
    output_options,
    parse_demo_options,
    plan_outputs,
    report_run,
    sources_of,
)
from tools.predict.pipeline import predict_files
from tools.predict.predictor import streams_for


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path, help="file written by tools/export.py")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders, globs, videos, addresses")
    add_demo_options(parser)
    args = parse_demo_options(parser)
    check_order(args.model, args.pictures)
    sources = sources_of(args, args.pictures)
    streams = streams_for(sources.total, args.threads)
    predictor = exported_predictor(args.model, score=args.score, streams=streams)
    jobs = plan_outputs(args, predictor.config, sources, args.model)
    report = predict_files(predictor, jobs, **output_options(args, predictor.config))
    report_run(args, report, predictor)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
