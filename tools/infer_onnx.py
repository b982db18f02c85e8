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
from tools.predict import demo_options
from tools.predict.pipeline import predict_files
from tools.predict.predictor import streams_for


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path, help="file written by tools/export.py")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders, globs, videos, addresses")
    demo_options.add_options(parser)
    args = demo_options.parse_args(parser)
    check_order(args.model, args.pictures)
    sources = demo_options.read_inputs(args, args.pictures)
    streams = streams_for(sources.total, args.threads)
    predictor = exported_predictor(args.model, score=args.score, streams=streams)
    jobs = demo_options.plan_outputs(args, predictor.config, sources, args.model)
    report = predict_files(predictor, jobs, **demo_options.output_options(args, predictor.config))
    demo_options.report_run(args, report, predictor)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
