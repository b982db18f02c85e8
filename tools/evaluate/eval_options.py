"""The options of eval.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.base import Config
from config.errors import InputError
from data.files import check_writable
from tools.common.checkpoint import store_score
from tools.common.cli import (
    Parser,
    add_data_root_option,
    add_field_option,
    add_network_options,
    positive_number,
)
from tools.evaluate.evaluate_split import MatchAt
from tools.evaluate.match_score import MatchScore


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
    pictures.add_argument(
        "--images", nargs="+", action="extend", metavar="PATH", help="files, folders or globs, without annotations"
    )
    pictures.add_argument(
        "--results", nargs="+", action="extend", metavar="FILE", help="COCO results, masks and boxes; no network"
    )
    add_field_option(parser, "--max-dets", "eval_cfg.max_dets", type=positive_number, metavar="N")
    parser.add_argument(
        "--match-score",
        action="store_true",
        help="also print S, F1 and the count error at the score test_cfg.score (default for eval_cfg.select_by=match)",
    )
    parser.add_argument(
        "--choose-score",
        action="store_true",
        help="--match-score at the score with the highest S on these pictures, which is stored in the checkpoint",
    )
    args = parser.parse_args()
    if networks := [path for path in args.images or () if Path(path).suffix.lower() == ".onnx"]:
        raise InputError(f"{networks[0]}: is a network in the place of a picture; give it before --images")
    if args.choose_score:
        reason = "--choose-score, which changes a checkpoint"
        parser.refuse(args, ("model", "untrained", "split", "images", "results"), reason)
        parser.refuse_fields(args, ["test_cfg.score"], "--choose-score, which chooses it")
    if args.images or args.split == "test-dev":
        what = "--images" if args.images else "--split test-dev"
        parser.refuse(args, ("classwise", "max_dets", "match_score"), f"{what}, which has no annotations")
    if args.images:
        parser.refuse(args, ("data_root",), "--images, which names the pictures")
        parser.refuse_fields(args, ("eval_cfg.",), "--images, for which the fields of test_cfg count")
    else:
        parser.refuse_fields(args, ("test_cfg.batch_size", "test_cfg.model_path"), "annotations; set that of eval_cfg")
    if args.results:
        network = "model", "weights", "untrained", "device", "engine", "precision", "output"
        parser.refuse(args, network, "--results, which runs no network")
    return args, parser


def wanted_match(args: argparse.Namespace, config: Config) -> MatchAt:
    """Return at which score the match score is printed; "" where it is not wanted."""
    if args.choose_score:
        return "best"
    return "score" if args.match_score or config.eval_cfg.select_by == "match" else ""


def keep_score(checkpoint: Path, match: MatchScore) -> None:
    """Store the chosen score in the checkpoint. Raises InputError if nothing was found at any score."""
    if not match.f1:
        raise InputError(f"{checkpoint}: finds no object at any score, so none was chosen; train it further")
    store_score(checkpoint, match.threshold)
    print(f"this score is now test_cfg.score of {checkpoint}")


def score_checkpoint(args: argparse.Namespace, config: Config) -> Path:
    """Return the checkpoint in which --choose-score stores the score.

    Raises InputError if it cannot be written, or if the config leaves out instances that may be among the chosen.
    """
    if config.eval_cfg.score:
        raise InputError(f"eval_cfg.score={config.eval_cfg.score:g}: --choose-score needs all instances; leave it out")
    path = Path(args.weights or config.model_path("eval_cfg"))
    check_writable(path)
    return path
