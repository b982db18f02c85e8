"""The options of train.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.common.cli import (
    Parser,
    add_data_options,
    add_device_option,
    add_field_option,
    natural_number,
    positive_number,
)
from tools.train.log import check_visualdl


def parse_options(docstring: str) -> argparse.Namespace:
    """Return the options. Options that cannot be combined end the program."""
    parser = Parser(docstring)
    add_data_options(parser)
    add_device_option(parser)
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder of the run (default: runs/<config name>)")
    parser.add_argument("--resume", metavar="FILE|auto", help="continue a saved run; auto: its newest state, if any")
    parser.add_argument(
        "--finetune", metavar="FILE", type=Path, help="checkpoint to start from; what it lacks stays random"
    )
    add_field_option(parser, "--seed", "train_cfg.seed", type=natural_number, metavar="S")
    parser.add_argument("--max-iters", type=positive_number, metavar="N", help="stop after step N")
    parser.add_argument(
        "--performance", type=positive_number, metavar="N", help="print the speed and memory of N steps; write nothing"
    )
    parser.add_argument("--visualdl", action="store_true", help="also log for VisualDL (pip install visualdl)")
    args = parser.parse_args()
    if args.resume == "":
        parser.error("--resume: an empty name; give a saved state, or auto")
    if args.finetune and args.resume not in (None, "auto"):
        parser.error("--finetune: a saved state has its own weights; leave it out, or give --resume auto")
    if args.performance and args.max_iters:
        parser.error("--max-iters: --performance ends after its own number of steps; leave one of them out")
    if args.visualdl and args.performance:
        parser.error("--visualdl: --performance writes nothing; leave one of them out")
    if args.visualdl:
        check_visualdl()
    return args
