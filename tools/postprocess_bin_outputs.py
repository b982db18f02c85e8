"""Turn a network's raw outputs into instances: one .bin file for each output of each picture, written by a device.

    python tools/postprocess_bin_outputs.py inputs outputs --json found.json
    python tools/postprocess_bin_outputs.py inputs outputs --json found.json --annotations val.json --pictures val

inputs is the folder that tools/preprocess_inputs_to_bin.py wrote; its index.json states the names, types and shapes of
the outputs. With annotations the program prints AP, as eval.py does. It needs neither Paddle nor ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from tqdm import tqdm

from config.errors import InputError, listed
from data.coco import CocoData, read_complete
from data.files import check_writable, write_json
from tools.common.cli import Parser, fraction
from tools.deploy.binary_files import INDEX, Entry, read_index, read_outputs
from tools.deploy.exported import decoder_of
from tools.evaluate.coco_metrics import evaluate_coco, ground_truth, summary_table
from tools.predict.predictor import Predictor

NAMES = "{picture}_{output}.bin"


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("inputs", metavar="INPUTS", type=Path, help="folder from tools/preprocess_inputs_to_bin.py")
    parser.add_argument("outputs", metavar="OUTPUTS", type=Path, help="folder of the .bin files that the device wrote")
    parser.add_argument(
        "--names",
        type=name_pattern,
        default=NAMES,
        metavar="PATTERN",
        help="names of these files, with {picture}, {output} and {number}, the index of the output from 0 "
        f"(default: {NAMES})".replace("%", "%%"),
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
    if bool(args.annotations) != bool(args.pictures):
        parser.error("--annotations and --pictures: give both or none")
    check_writable(args.json, read=[args.inputs / INDEX, *filter(None, [args.annotations])])
    metadata, entries = read_index(args.inputs)
    config = metadata.config
    score = args.score
    if score is None:
        score = (config.eval_cfg if args.annotations else config.test_cfg).score
    found = ids = None
    if args.annotations:
        found = read_complete(args.annotations.resolve(), args.pictures.resolve(), metadata.classes, args.inputs)
        ids = _image_ids(found, entries, args.inputs)
    predictor = Predictor(config, metadata.classes, None, score=score, engine_name="none", decode=decoder_of(metadata))
    rows = []
    for number, entry in enumerate(tqdm(entries, unit="picture", disable=None), start=1):
        raw = read_outputs(args.outputs, args.names, entry, metadata.outputs)
        instances = predictor.instances(raw, 0, resized=entry.resized, original=entry.original_size)
        own = instances.to_coco(ids[entry.path] if ids else number)
        rows += [{**row, "file_name": entry.path} for row in own]
    write_json(args.json, rows)
    print(f"{len(entries)} pictures, {len(rows)} instances of score {score:g} or more in {args.json}")
    if found:
        truth = ground_truth(found)
        evaluation = evaluate_coco(truth, rows, truth.image_ids)
        print(summary_table(evaluation.mask, evaluation.box))
    return 0


def name_pattern(text: str) -> str:
    try:
        text.format(picture="", output="", number=0)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise argparse.ArgumentTypeError(f"{text!r} has fields besides {{picture}}, {{output}}, {{number}}") from None
    return text


def _image_ids(found: CocoData, entries: Sequence[Entry], folder: Path) -> dict[str, int]:
    """Return the image id of each picture by its path.

    Raises InputError if the folder lacks annotated pictures, or has pictures without annotations.
    """
    ids = {str(record.path.resolve()): record.image_id for record in found.records}
    missing = sorted(ids.keys() - {entry.path for entry in entries})
    foreign = [entry.path for entry in entries if entry.path not in ids]
    if missing or foreign:
        what = f"lacks the annotated {listed(missing)}" if missing else f"has {listed(foreign)} without annotations"
        raise InputError(f"{folder}: {what}; AP would belong to another data set")
    return ids


if __name__ == "__main__":
    sys.exit(run(main))
