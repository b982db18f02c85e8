"""Evaluate a network: box and mask AP on the validation pictures, and a report as a web page.

Examples:
    python eval.py                                             the small model in weights/, on generated pictures
    python eval.py --config=1 -o val_path=my/val.json -o val_pre_path=my/pictures --classwise
    python eval.py --config=0 --split test-dev                 write the file for the COCO server
    python eval.py --engine onnx shapes.onnx                   an ONNX file written by tools/export.py
    python eval.py --config=0 --images photos                  without annotations: write drawings and COCO results
    python eval.py --config=0 --results masks.json             AP of a COCO results file
    python eval.py --config=21                                 nuclei of microscopes, with the match score
"""

from __future__ import annotations

from tools.common.startup import run

import sys

from config.base import PROJECT
from data.images import find_images
from data.written import check_output_files
from tools.common.cli import config_of, engine_options, source_options
from tools.common.distributed import join_world
from tools.common.threads import exit_on_ctrl_c
from tools.deploy.exported import predictor_of_options
from tools.evaluate.coco_metrics import summary_table
from tools.evaluate.eval_options import keep_score, parse_options, score_checkpoint, wanted_match
from tools.evaluate.evaluate_results import results_table
from tools.evaluate.evaluate_split import evaluate_split, read_split, split_files, write_submission
from tools.evaluate.match_score import match_table
from tools.predict.jobs import plan_jobs
from tools.predict.load import NetworkSource, build_predictor, network_source
from tools.predict.picture_files import drawings
from tools.predict.pipeline import predict_files
from tools.predict.predictor import DEFAULT_THREADS, streams_for


def main() -> int:
    args, parser = parse_options(__doc__)
    if args.results:
        config = config_of(args)
        print(results_table(config, args.results, classwise=args.classwise, match=bool(wanted_match(args, config))))
        return 0
    section = "test_cfg" if args.images else "eval_cfg"
    exported = predictor_of_options(args, parser, section) if args.model else None
    config = exported.config if exported else config_of(args)
    output = args.output or PROJECT / "runs" / f"{config.name}_{'images' if args.images else args.split}"
    check_output_files([output / "results.json"] if args.images else split_files(config, output, args.split))
    checkpoint = score_checkpoint(args, config) if args.choose_score else None
    jobs = plan_jobs(find_images(args.images) if args.images else (), files := [drawings(output)])
    world = join_world()
    if jobs and not world.is_first:  # one process predicts into one folder and one results file
        return 0
    network = exported or network_source(config, **source_options(args), section=section)
    data = None if jobs else read_split(network.config, network.classes, args.split, world=world)
    if isinstance(network, NetworkSource):  # after the data, because compiling may take a minute
        streams = streams_for(len(jobs if data is None else data.records), DEFAULT_THREADS)
        network = build_predictor(network, **engine_options(args), section=section, streams=streams)
    if data is None:
        report = predict_files(network, jobs, files=files, results=output / "results.json", threads=DEFAULT_THREADS)
        print(f"{report.pictures} pictures, {report.instances} instances; drawings and results.json are in {output}")
        return 0
    with exit_on_ctrl_c():
        if args.split == "test-dev":
            if written := write_submission(network, data, output, world=world):
                print(f"wrote {written}")
            return 0
        evaluation = evaluate_split(network, data, output, world=world, match=wanted_match(args, config))
    if evaluation:
        print(summary_table(evaluation.coco.mask, evaluation.coco.box, classwise=args.classwise))
        if evaluation.match:
            print(match_table(evaluation.match))
        if evaluation.match and checkpoint:
            keep_score(checkpoint, evaluation.match)
        print(f"{evaluation.coco.pictures} pictures; the results and the report, index.html, are in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
