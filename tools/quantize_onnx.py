"""Quantize an exported network to INT8, and compare AP, size and speed of both.

    python tools/draw_shapes.py -o shapes.train_pictures=100 -o train_path=datasets/calibration/annotations.json \\
        -o train_pre_path=datasets/calibration/images
    python tools/export.py --config=20 --output shapes.onnx
    python tools/quantize_onnx.py shapes.onnx datasets/calibration/images --output shapes_int8.onnx \\
        --annotations datasets/shapes/val/annotations.json --pictures datasets/shapes/val/images

ONNX Runtime runs the network on the pictures, which should resemble those of its later use and need no annotations, and
chooses scales by the largest and smallest values. Convolutions then compute in INT8, with a scale for each channel of
their weights. Everything else stays in float32: the comparison of neighbouring cells, which would find many of them
equal, norms, and deformable convolutions; without --all also the last convolutions, those that feed no other
convolution. The file is used like any other file of tools/export.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import importlib.util
import logging
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import temporary_folder
from data.images import find_images, read_image
from data.written import check_output_files, write_output
from tools.common.cli import Parser, align_columns, positive_number
from tools.common.skipped import map_readable
from tools.deploy.comparison import check_readable, mask_summary, network_seconds, read_annotated, spread
from tools.deploy.exported import IMAGES, check_order, exported_predictor
from tools.predict.predictor import Predictor

if TYPE_CHECKING:
    from onnx import ModelProto

TIMED = 20  # pictures
DECISIONS = ("ArgMax", "Equal", "Greater", "GreaterOrEqual", "TopK")


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path, help="file of tools/export.py")
    parser.add_argument("folder", metavar="PICTURES", nargs="+", help="pictures for calibration: files, folders, globs")
    parser.add_argument("--limit", type=positive_number, metavar="N", help="use N of them, evenly spread")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="the INT8 network")
    parser.add_argument("--all", action="store_true", help="quantize the last convolutions too")
    parser.add_argument("--annotations", metavar="FILE", type=Path, help="print the mask AP on these annotations")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="with --annotations: the folder of their pictures")
    args = parser.parse_args()
    if bool(args.annotations) != bool(args.pictures):
        parser.error("--annotations and --pictures: give both or none")
    if importlib.util.find_spec("onnx") is None:
        raise InputError("quantization needs the package onnx; pip install '.[export]'")
    check_order(args.model, args.folder)
    paths = find_images(args.folder)
    check_output_files([args.output], read=[args.model, *paths])
    before = exported_predictor(args.model, score=0.0)
    chosen = [paths[place] for place in spread(len(paths), args.limit or len(paths))]
    paths = map_readable(lambda path: check_readable(path, before.config), chosen, title="reading")
    found = args.annotations and read_annotated(args.annotations, args.pictures, before.classes, args.model)
    quantized = quantize(args.model, before, paths, args.output, keep_last=not args.all)
    networks = {args.model: before, args.output: exported_predictor(args.output, score=0.0)}
    seconds = network_seconds(list(networks.values()), paths[:TIMED])
    rows = [["", "MB", "ms a picture", *(["mask AP", "AP50"] if found else [])]]
    for (path, predictor), median in zip(networks.items(), seconds):
        figures = [f"{path.stat().st_size / 1e6:.2f}", f"{median * 1000:.1f}"]
        if found:
            summary = mask_summary(predictor, found)
            figures += [f"{summary[name] * 100:.2f}" for name in ("AP", "AP50")]
        rows.append([str(path), *figures])
    print(f"{quantized} convolutions in INT8, scales from {len(paths)} pictures")
    print(align_columns(rows))
    return 0


def quantize(model: Path, predictor: Predictor, paths: Sequence[Path], output: Path, *, keep_last: bool) -> int:
    """Write the INT8 network, and return how many convolutions are in INT8. keep_last: the last ones stay float32.

    Raises InputError where the network is in INT8 already.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, bar: Iterable[Path]) -> None:
            self.paths = iter(bar)

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.paths, None)
            if path is None:
                return None
            return {IMAGES: predictor.pad([predictor.prepare(read_image(path, predictor.config.data.stretch))])}

    graph = onnx.load(model)
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        raise InputError(f"{model}: is in INT8 already; give the float32 file")
    kept = last_convolutions(graph) if keep_last else []
    quantized = sum(node.op_type == "Conv" for node in graph.graph.node) - len(kept)
    with temporary_folder() as folder:
        named, written = folder / "named.onnx", folder / "quantized.onnx"
        onnx.save(graph, named)
        logging.disable(logging.WARNING)  # it advises to simplify the graph first, which export has done
        with tqdm(paths, unit="picture", desc="calibration", disable=None) as bar:  # closed before an error is printed
            quantization.quantize_static(
                named,
                written,
                Reader(bar),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                nodes_to_exclude=kept,
            )
        logging.disable(logging.NOTSET)
        result = onnx.load(written)
        del result.metadata_props[:]
        result.metadata_props.extend(graph.metadata_props)
        onnx.save(result, written)
        with write_output(output) as temporary:
            shutil.copyfile(written, temporary)
    return quantized


def last_convolutions(model: ModelProto) -> list[str]:
    """Return the names of the convolutions that feed no other convolution; nodes without a name get one.

    A decision ends the path: the convolutions that predict CenterMask2's boxes are last ones too.
    """
    feeds_convolution = set()  # names of arrays that some convolution depends on
    last = []
    for number, node in reversed(list(enumerate(model.graph.node))):  # nodes come after their inputs
        is_convolution = node.op_type in ("Conv", "DeformConv")
        node.name = node.name or f"{node.op_type}_{number}"
        before_another = any(name in feeds_convolution for name in node.output)
        if node.op_type == "Conv" and not before_another:
            last.append(node.name)
        if (is_convolution or before_another) and node.op_type not in DECISIONS:
            feeds_convolution.update(node.input[:1] if node.op_type == "RoiAlign" else node.input)
    return last


if __name__ == "__main__":
    sys.exit(run(main))
