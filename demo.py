"""Find the instances in pictures and videos, and draw them.

Examples:
    python demo.py                                     the small model, images/test, drawings in images/res
    python demo.py --config=2 --input photos 'more/*.jpg' --output drawn --json found.json
    python demo.py --config=2 --input street.mp4 --every 2 --json found.jsonl
    python demo.py --list                              all configs, and where their checkpoints are published
"""

from __future__ import annotations

from tools.common.startup import run

import sys

from config.base import PROJECT
from tools.common.cli import Parser, add_network_options, config_of, network_options
from tools.predict import demo_options
from tools.predict.load import load_predictor
from tools.predict.pipeline import predict_files
from tools.predict.predictor import streams_for

UNTRAINED = "The network is UNTRAINED: its weights are random, and the drawings mean nothing."


def main() -> int:
    parser = Parser(__doc__)
    add_network_options(parser)
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="files, folders, globs, videos, addresses, the number of a camera, - for a list (default: of the config)",
    )
    demo_options.add_options(parser)
    args = demo_options.parse_args(parser)
    parser.refuse_fields(args, ["eval_cfg."], "demo.py, for which the fields of test_cfg count")
    config = config_of(args)
    sources = demo_options.read_inputs(args, args.input or [PROJECT / config.demo_input])
    jobs = demo_options.plan_outputs(args, config, sources, args.weights or config.model_path("test_cfg"))
    streams = streams_for(sources.total, args.threads)
    predictor = load_predictor(config, **network_options(args), score=args.score, streams=streams)
    report = predict_files(predictor, jobs, **demo_options.output_options(args, config))
    note = UNTRAINED if args.untrained is not None else ""
    demo_options.report_run(args, report, predictor, note=note)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
