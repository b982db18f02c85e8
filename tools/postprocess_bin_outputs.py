"""Turn a network's raw outputs into instances: one .bin file for each output of each picture, written by a device.

    python tools/postprocess_bin_outputs.py inputs outputs --json found.json
    python tools/postprocess_bin_outputs.py inputs outputs --json found.json --annotations val.json --pictures val

inputs is the folder that tools/preprocess_inputs_to_bin.py wrote; its index.json states the names, types and shapes of
the outputs. With annotations the program prints AP, as eval.py does. A picture that lacks an output is listed and left
out, also of AP. The program needs neither Paddle nor ONNX Runtime, and faster-coco-eval only with annotations.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import argparse
import importlib.util
import re
from collections.abc import Sequence
from os.path import realpath

from tqdm import tqdm

from config.coco_layout import OPTION_REMEDIES
from config.errors import InputError, listed
from data.coco import CocoData, read_complete
from data.written import check_output_files, write_json
from tools.common.cli import Parser, fraction, natural_number
from tools.common.kinds import kind_of
from tools.common.skipped import print_skipped
from tools.deploy.binary_files import INDEX, Entry, OutputFiles, read_index
from tools.deploy.exported import decoder_of, warn_of_defaults
from tools.predict.predictor import Predictor

NAMES = "{picture}_{output}.bin"


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("inputs", metavar="INPUTS", type=Path, help="folder from tools/preprocess_inputs_to_bin.py")
    parser.add_argument("outputs", metavar="OUTPUTS", type=Path, help="folder of the .bin files that the device wrote")
    parser.add_argument(
        "--names",
        type=name_pattern,
        default=NAMES,
        metavar="PATTERN",
        help=f"names of these files, with {{picture}}, {{output}} and {{number}} (default: {NAMES})",
    )
    parser.add_argument(
        "--first-number",
        type=natural_number,
        metavar="N",
        help="with {number}: the number of the first output (default: 0; many boards count from 1)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, required=True, help="write the instances as COCO results")
    parser.add_argument(
        "--score",
        type=fraction,
        help="leave out instances with a lower score (default: test_cfg.score; with annotations eval_cfg.score)",
    )
    parser.add_argument("--annotations", metavar="FILE", type=Path, help="COCO annotations; print AP on them")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="with --annotations: the folder of the pictures")
    args = parser.parse_args()
    if args.first_number is not None and "{number" not in args.names:
        parser.error("--first-number: add --names with {number}, for example {picture}_{number}.bin")
    if bool(args.annotations) != bool(args.pictures):
        parser.error("--annotations and --pictures: give both or none")
    if args.annotations and importlib.util.find_spec("faster_coco_eval") is None:
        raise InputError("--annotations: AP needs the package faster-coco-eval; pip install faster-coco-eval")
    return args


def main() -> int:
    args = parse_options()
    check_output_files([args.json], read=[args.inputs / INDEX, *filter(None, [args.annotations])])
    metadata, entries = read_index(args.inputs)
    config = metadata.config
    score = args.score
    if score is None:
        score = (config.eval_cfg if args.annotations else config.test_cfg).score
    found = None
    ids = {entry.path: entry.image_id for entry in entries}
    if args.annotations:
        warn_of_defaults(config, args.inputs / INDEX)
        paths = args.annotations.resolve(), args.pictures.resolve()
        found = read_complete(*paths, metadata.classes, args.inputs, remedies=OPTION_REMEDIES)
        for line in found.problems.lines():
            print(line)
        ids = _image_ids(found, entries, args.inputs)
    predictor = Predictor(config, metadata.classes, None, score=score, engine_name="none", decode=decoder_of(metadata))
    # CenterMask2 multiplies its scores by an estimated IoU, which has no limits.
    shares = (*(["scores"] if kind_of(config).has_grids else []), *(["masks"] if metadata.end_to_end else []))
    files = OutputFiles(args.outputs, args.names, args.first_number or 0, metadata.outputs, shares)
    present = _with_outputs(entries, files)
    rows = []
    for entry in tqdm(present, unit="picture", disable=None):
        raw = files.read(entry)
        try:
            instances = predictor.instances(raw, 0, resized=entry.resized, original=entry.original_size)
        except InputError as error:
            raise InputError(f"{listed([str(path) for path in files.paths(entry)])}: {error}") from None
        rows += [{**row, "file_name": entry.path} for row in instances.to_coco(ids[entry.path])]
    write_json(args.json, rows)
    if skipped := len(entries) - len(present):
        print(f"{skipped} pictures without outputs were skipped, see above")
    print(f"{len(present)} pictures, {len(rows)} instances of score {score:g} or more in {args.json}")
    if found:
        from tools.evaluate.coco_metrics import evaluate_coco, ground_truth, summary_table  # not needed without AP

        predicted = [ids[entry.path] for entry in present]
        evaluation = evaluate_coco(ground_truth(found), rows, predicted, config.eval_cfg.max_dets)
        print(summary_table(evaluation.mask, evaluation.box))
    return 0


def _with_outputs(entries: Sequence[Entry], files: OutputFiles) -> list[Entry]:
    """Return the pictures that have all output files, and list the others.

    Raises InputError if there is none, or if a file would be of two outputs or pictures.
    """
    paths = [path for entry in entries for path in files.paths(entry)]
    if len(set(paths)) < len(paths):
        raise InputError(f"--names {files.pattern}: two outputs have one name; use {{picture}} and {{output}} in it")
    missing = [files.missing(entry) for entry in entries]
    present = [entry for entry, path in zip(entries, missing) if path is None]
    if not present and not files.folder.is_dir():
        raise InputError(f"{files.folder}: no such folder; give the folder of the outputs")
    if not present:
        raise InputError(
            f"{files.folder}: no picture has all of its outputs, for example "
            f"{next(iter(missing), 'none is listed')}; see --names and --first-number"
        )
    for path in filter(None, missing):
        print_skipped(f"{path}: there is no such file")
    return present


def name_pattern(text: str) -> str:
    """Accept a format with the fields picture, output and number, of which the number may have a width."""
    fields = r"\{picture\}|\{output\}|\{number(:0?[1-9]?d)?\}"
    if set(re.sub(fields, "", text)) & set("{}"):
        raise argparse.ArgumentTypeError(
            f"{text!r} has fields besides {{picture}}, {{output}}, {{number}} and such as {{number:03d}}"
        )
    return text


def _image_ids(found: CocoData, entries: Sequence[Entry], folder: Path) -> dict[str, int]:
    """Return the image id of each picture by its path.

    Raises InputError if the folder lacks annotated pictures, or has pictures without annotations.
    """
    ids = {str(record.path.resolve()): record.image_id for record in found.records}
    files = {entry.path: realpath(entry.path) for entry in entries}  # an index may have the names of links
    missing = sorted(ids.keys() - set(files.values()))
    foreign = [path for path, file in files.items() if file not in ids]
    if missing or foreign:
        what = f"lacks the annotated {listed(missing)}" if missing else f"has {listed(foreign)} without annotations"
        raise InputError(
            f"{folder}: {what}; AP would belong to another data set, so give annotations of exactly these pictures, or "
            "leave --annotations out"
        )
    return {path: ids[file] for path, file in files.items()}


if __name__ == "__main__":
    sys.exit(run(main))
