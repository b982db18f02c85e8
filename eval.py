"""Evaluate a network: box and mask AP on the validation pictures, and a report as a web page.

Examples:
    python eval.py                                             the small model in weights/, on generated pictures
    python eval.py --config=1 -o val_path=my/val.json -o val_pre_path=my/pictures --classwise
    python eval.py --config=0 --split test-dev                 write the file for the COCO server
    python eval.py --engine onnx shapes.onnx                   an ONNX file written by tools/export.py
    python eval.py --config=0 --images photos                  without annotations: write drawings and COCO results
    python eval.py --config=0 --results masks.json             AP of a COCO results file
"""

from __future__ import annotations

from tools.common.startup import run

import sys
from pathlib import Path

from config.base import PROJECT
from data.images import find_images
from data.written import check_output_files
from tools.common.cli import Parser, add_data_root_option, add_network_options, config_of, network_options
from tools.common.distributed import join_world
from tools.common.threads import exit_on_ctrl_c
from tools.deploy.exported import predictor_of_options
from tools.evaluate.coco_metrics import summary_table
from tools.evaluate.evaluate_results import results_table
from tools.evaluate.evaluate_split import evaluate_split, split_files, write_submission
from tools.predict.load import load_predictor
from tools.predict.pipeline import plan_jobs, predict_files
from tools.predict.predictor import DEFAULT_THREADS


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("model", nargs="?", metavar="MODEL.onnx", help="with --engine onnx: file from tools/export.py")
    add_network_options(parser)
    add_data_root_option(parser)
    parser.add_argument("--classwise", action="store_true", help="also print the AP of each class")
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder for the results (default: in runs/)")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--split", choices=("val", "test-dev"), default="val", help="pictures to use (default: val)")
    pictures.add_argument("--images", nargs="+", metavar="PATH", help="files, folders or globs, without annotations")
    pictures.add_argument("--results", nargs="+", metavar="FILE", help="COCO results, masks and boxes; no network")
    args = parser.parse_args()
    if args.results:
        parser.refuse(args, ("model", "weights", "untrained", "output"), "--results, which runs no network")
        print(results_table(config_of(args), args.results, classwise=args.classwise))
        return 0
    section = "test_cfg" if args.images else "eval_cfg"
    predictor = predictor_of_options(args, parser, section) if args.model else None
    config = predictor.config if predictor else config_of(args)
    output = args.output or PROJECT / "runs" / f"{config.name}_{'images' if args.images else args.split}"
    check_output_files([output / "results.json"] if args.images else split_files(config, output, args.split))
    jobs = plan_jobs(find_images(args.images), output) if args.images else []
    world = join_world()
    if jobs and not world.is_first:
        return 0  # the first process alone predicts these pictures into one folder and one results file
    score = getattr(config, section).score
    predictor = predictor or load_predictor(config, **network_options(args), score=score, section="eval_cfg")
    if jobs:
        report = predict_files(predictor, jobs, results=output / "results.json", threads=DEFAULT_THREADS)
        print(f"{report.pictures} pictures, {report.instances} instances; drawings and results.json are in {output}")
        return 0
    with exit_on_ctrl_c():
        if args.split == "test-dev":
            if written := write_submission(predictor, output, world=world):
                print(f"wrote {written}")
            return 0
        evaluation = evaluate_split(predictor, output, world=world)
    if evaluation:
        print(summary_table(evaluation.mask, evaluation.box, classwise=args.classwise))
        print(f"{evaluation.pictures} pictures; the results and the report, index.html, are in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
