"""The options of eval.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.common.cli import Parser, add_data_root_option, add_network_options, positive_number


def parse_options(docstring: str) -> tuple[argparse.Namespace, Parser]:
    """Return the options, and their parser. Raises InputError for options that cannot be combined."""
    parser = Parser(docstring)
    parser.add_argument("model", nargs="?", metavar="MODEL.onnx", help="with --engine onnx: file from tools/export.py")
    add_network_options(parser)
    add_data_root_option(parser)
    parser.add_argument("--classwise", action="store_true", help="also print the AP of each class")
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder for the results (default: in runs/)")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--split", choices=("val", "test-dev"), default="val", help="pictures to use (default: val)")
    pictures.add_argument("--images", nargs="+", metavar="PATH", help="files, folders or globs, without annotations")
    pictures.add_argument("--results", nargs="+", metavar="FILE", help="COCO results, masks and boxes; no network")
    parser.add_argument("--max-dets", type=positive_number, metavar="N", help="the same as -o eval_cfg.max_dets=N")
    parser.add_argument(
        "--match-score", action="store_true", help="also print S, F1 and the count error at the score test_cfg.score"
    )
    parser.add_argument(
        "--choose-score",
        action="store_true",
        help="--match-score at the score with the highest S on these pictures, which is stored in the checkpoint",
    )
    args = parser.parse_args()
    if args.max_dets:
        args.overrides.append(f"eval_cfg.max_dets={args.max_dets}")
    if args.choose_score:
        reason = "--choose-score, which changes a checkpoint"
        parser.refuse(args, ("model", "untrained", "split", "images", "results"), reason)
    if args.images or args.split == "test-dev":
        what = "--images" if args.images else "--split test-dev"
        parser.refuse(args, ("classwise", "max_dets", "match_score"), f"{what}, which has no annotations")
    if args.results:
        parser.refuse(args, ("model", "weights", "untrained", "output"), "--results, which runs no network")
    return args, parser
