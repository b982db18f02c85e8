"""Quantize a checkpoint to INT8, and compare it with float32.

    python tools/quantize.py --config=1 --images calibration
    python demo.py --config=1 --precision int8
    python tools/quantize.py --config=1 --images calibration --annotations val.json --pictures val

The INT8 network is written beside the checkpoint, as NAME.int8; demo.py, eval.py, tools/benchmark.py and
`load_predictor` use it with the precision int8. OpenVINO runs the network on the pictures, which should resemble those
of its later use and need no annotations, and NNCF chooses the scales. Convolutions then compute in INT8. Group norms,
deformable convolutions, the last layers, and the scores of cells stay in float32.

With annotations, the mask AP of both is printed, and layers are kept in float32 until the mask AP is at most --max-drop
points lower (in CenterMask2 only layers before its boxes). Without them, the instances that both find in the pictures
are counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import importlib.util
from collections.abc import Mapping, Sequence

from config import load_config
from config.errors import InputError
from data.coco import CocoData
from data.images import find_images, read_image
from data.written import check_output_files
from tools.common.cli import Parser, add_config_options, align_columns, points, positive_number
from tools.common.skipped import map_readable
from tools.deploy.comparison import check_readable, count_found, mask_summary, network_seconds, read_annotated, spread
from tools.deploy.quantization import AccuracyControl, quantize_graphs
from tools.engine.compiled import CompiledEngine, compiled_graphs, network_fingerprint
from tools.engine.int8 import int8_path, write_int8
from tools.engine.select import unusable_reason
from tools.predict.load import build_predictor, network_source
from tools.predict.predictor import Predictor, PreparedInput

TIMED = 20  # pictures
COMPARED = 50  # pictures


def main() -> int:
    parser = Parser(__doc__)
    add_config_options(parser)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: weights/<config name>.pdparams)")
    parser.add_argument(
        "--images", nargs="+", required=True, metavar="PATH", help="for calibration: files, folders, globs"
    )
    parser.add_argument(
        "--limit", type=positive_number, default=300, metavar="N", help="of them at most (default: 300)"
    )
    parser.add_argument("--annotations", metavar="FILE", type=Path, help="COCO annotations for the mask AP")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="with --annotations: the folder of their pictures")
    parser.add_argument(
        "--max-drop", type=points, default=0.3, metavar="POINTS", help="of mask AP, with --annotations (default: 0.3)"
    )
    args = parser.parse_args()
    if bool(args.annotations) != bool(args.pictures):
        parser.error("--annotations and --pictures: give both or none")
    if not is_installed():
        raise InputError("quantization needs nncf and OpenVINO; pip install '.[int8]'")
    config = load_config(args.config, args.overrides)
    weights = Path(args.weights or config.model_path("test_cfg"))
    output = int8_path(weights)
    every = find_images(args.images)
    check_output_files([output], read=[weights, *every])
    source = network_source(config, args.weights, overrides=args.overrides)
    data = read_annotated(args.annotations, args.pictures, source.classes, weights) if args.annotations else None
    paths = [every[place] for place in spread(len(every), args.limit)]
    paths = map_readable(lambda path: check_readable(path, source.config), paths, title="reading")
    section = "eval_cfg" if args.annotations else "test_cfg"
    before = build_predictor(source, device="cpu", engine="openvino", section=section)
    graph_source = source.build, source.config, source.weights, *source.facts
    folder = compiled_graphs("openvino", *graph_source, apart=True)
    engine = CompiledEngine("openvino", "fp32", folder, source.config, apart=True, int8={})
    tried = Predictor(source.config, source.classes, engine, score=0.0, engine_name="openvino")
    control = AccuracyControl(lambda: mask_summary(tried, data)["AP"], args.max_drop / 100) if data else None
    write_int8(
        output,
        quantize_graphs(engine, folder, paths, lambda path: _prepare(path, before), before.pad, control),
        network_fingerprint(source.config, source.weights),
    )
    after = build_predictor(source, device="cpu", engine="openvino", precision="int8", section=section)
    print(f"wrote {output}, calibrated with {len(paths)} pictures")
    print(_comparison({"fp32": before, "int8": after}, paths, data))
    return 0


def is_installed() -> bool:
    return importlib.util.find_spec("nncf") is not None and not unusable_reason("openvino")


def _prepare(path: Path, predictor: Predictor) -> PreparedInput:
    return predictor.prepare(read_image(path, predictor.config.data.stretch))


def _comparison(networks: Mapping[str, Predictor], paths: Sequence[Path], data: CocoData | None) -> str:
    """Return a table of the time of both networks, float32 first, and of their mask AP or of what both find."""
    seconds = network_seconds(list(networks.values()), paths[:TIMED])
    if data:
        titles = ["mask AP", "AP50"]
        summaries = [mask_summary(predictor, data) for predictor in networks.values()]
        figures = [[f"{summary[name] * 100:.2f}" for name in ("AP", "AP50")] for summary in summaries]
    else:
        titles = ["instances", "found of fp32's"]
        first, second = ([predictor(path) for path in paths[:COMPARED]] for predictor in networks.values())
        counts = [sum(map(len, found)) for found in (first, second)]
        share = sum(map(count_found, first, second)) / counts[0] if counts[0] else 1.0
        figures = [[str(counts[0]), ""], [str(counts[1]), f"{share:.1%}"]]
    rows = [["", "ms a picture", *titles]]
    rows += [[name, f"{median * 1000:.1f}", *own] for name, median, own in zip(networks, seconds, figures)]
    return align_columns(rows)


if __name__ == "__main__":
    sys.exit(run(main))
