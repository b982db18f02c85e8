"""Write a network as a file for other programs: ONNX, or Paddle's inference library.

    python tools/export.py --config=20 --output shapes.onnx                                     raw predictions
    python tools/export.py --config=20 --output shapes.onnx --end-to-end --input-size 352x352   instances
    python tools/export.py --config=20 --output shapes --format paddle                          shapes.json, .pdiparams
    python tools/export.py --config=30 --output centermask2.onnx --end-to-end                   instances in boxes

Raw predictions are the scores of cells and the mask inputs; tools/infer_onnx.py decodes them. With --end-to-end the
graph decodes them itself, for one picture: masks [n, h, w] (probabilities), scores [n], highest first, classes
[n], counted from 0, and count [1]. n is nms.max_per_img; after the first `count` rows the scores are 0. Candidates are
the nms.nms_pre pairs of a cell and a class with the highest scores.

CenterMask2 is written with --end-to-end only. Its masks are uint8 [n, H, W], 0 or 1 at the size of the input. Further
outputs are boxes [n, 4], x1, y1, x2, y2 in pixels of the input; box_masks [n, 28, 28], the probabilities that were
pasted into the boxes, from which masks of any other size can be computed; and box_scores [n], by which all outputs are
sorted, highest first. Scores are these times the estimated IoU of the mask.

The input is `images`, float32 [N, 3, H, W]: (RGB - mean) / std (BGR for CenterMask2), zero-padded at the bottom and
right; CenterMask2 finds the end of the picture by these zeros. Everything that a program must know about this, and the
class names, is stored as JSON: under the key paddle_solo of an ONNX file's metadata, or in OUTPUT_metadata.json next to
a model of Paddle.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import paddle

from config.errors import InputError
from config.overrides import override
from data.files import temporary_folder
from data.written import check_output_files, write_output
from model.device import select_device
from tools.common.cli import Parser, add_weights_options, config_of, input_size
from tools.common.kinds import kind_of
from tools.deploy.exported import IMAGES, METADATA, Metadata, Output
from tools.engine.graph_writer import write_graph
from tools.engine.select import foreign_translator
from tools.predict.load import network_source

if TYPE_CHECKING:
    from onnx import ModelProto

EXPORT_PACKAGES = ("onnx", "onnxslim", "paddle2onnx")
PADDLE_SUFFIXES = (".json", ".pdmodel", ".pdiparams", "_metadata.json")  # of Paddle 3 and Paddle 2
TRIAL_SIDE = 128  # pixels per side of the input for a trial run of networks that take any size


def main() -> int:
    parser = Parser(__doc__)
    add_weights_options(parser)
    parser.add_argument("--format", choices=("onnx", "paddle"), default="onnx", help="what to write (default: onnx)")
    parser.add_argument(
        "--input-size",
        type=input_size,
        metavar="HxW|dynamic",
        help="the fixed size of the padded input, one picture at a time, or dynamic for any size (default: "
        "data.fixed_size, which is dynamic in all configs)",
    )
    parser.add_argument("--end-to-end", action="store_true", help="with NMS: the graph gives instances")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the ONNX file, or what Paddle's files begin with"
    )
    args = parser.parse_args()
    config = config_of(args)
    is_onnx = args.format == "onnx"
    if is_onnx != (args.output.suffix == ".onnx"):
        raise InputError(f"--output {args.output}: ONNX files end with .onnx, and no others; see --format")
    if args.output.suffix in PADDLE_SUFFIXES:
        raise InputError(f"--output {args.output}: Paddle's files get suffixes of their own; give {args.output.stem}")
    if is_onnx:
        _check_packages()
    size = config.data.fixed_size if args.input_size is None else args.input_size
    config = override(config, [f"data.fixed_size={size}"])
    suffixes = [""] if is_onnx else PADDLE_SUFFIXES
    targets = [args.output.with_name(f"{args.output.name}{suffix}") for suffix in suffixes]
    check_output_files(targets, kind="network")
    select_device("cpu")
    kind = kind_of(config)
    if not args.end_to_end and not kind.raw_outputs(config):
        raise InputError(
            f"--config {args.config}: CenterMask2 has two parts with a choice of boxes between them, so it has no raw "
            "predictions to export; add --end-to-end"
        )
    source = network_source(config, args.weights, overrides=args.overrides, untrained=args.untrained)
    config = source.config.replace(data=replace(source.config.data, fixed_size=size))
    network = source.build()
    if args.end_to_end:
        network = kind.with_decoding(network, config)
        network.eval()
    names = kind.instance_outputs if args.end_to_end else kind.raw_outputs(config)
    metadata = Metadata(config, source.classes, args.end_to_end, _outputs(network, names, size))
    written = export(network, metadata, args.output, onnx=is_onnx)
    print(f"wrote {' and '.join(map(str, written))}")
    return 0


def export(network: paddle.nn.Layer, metadata: Metadata, path: Path, *, onnx: bool) -> list[Path]:
    """Write the files, and return them; the network must not be called afterwards. See `write_graph`."""
    size = metadata.config.data.fixed_size
    alone = 1 if size or metadata.end_to_end else None
    images = paddle.static.InputSpec([alone, 3, *(size or (None, None))], "float32", IMAGES)
    with temporary_folder() as folder:
        stem = folder / "network"
        try:
            write_graph(network, [images], stem, portable=onnx)
        except RuntimeError as error:
            raise InputError(f"{metadata.config.name}: {error}; export it with --format paddle") from error
        if onnx:
            _finish_onnx(stem.with_suffix(".onnx"), metadata)
        else:
            stem.with_name(f"{stem.name}_metadata.json").write_text(metadata.to_json(), encoding="utf-8")
        targets = {
            path if onnx else path.with_name(path.name + file.name.removeprefix(stem.name)): file
            for file in sorted(folder.iterdir())
        }
        with ExitStack() as outputs:  # all files are complete before one gets its name
            for target, file in targets.items():
                shutil.copyfile(file, outputs.enter_context(write_output(target, kind="network")))
    return list(targets)


def _check_packages() -> None:
    if missing := [name for name in EXPORT_PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"--format onnx: needs {' and '.join(missing)}; pip install '.[export]'")
    if reason := foreign_translator():
        raise InputError(f"--format onnx: {reason}; install Paddle 3, or use --format paddle")


@paddle.no_grad()
def _outputs(network: paddle.nn.Layer, names: Sequence[str], size: tuple[int, ...]) -> tuple[Output, ...]:
    """Describe the network's outputs by running it once; Paddle cannot run it again after it is written."""
    arrays = network(paddle.zeros([1, 3, *(size or (TRIAL_SIDE, TRIAL_SIDE))]))
    return tuple(
        Output(name, str(array.numpy().dtype), tuple(array.shape) if size else ()) for name, array in zip(names, arrays)
    )


def _finish_onnx(path: Path, metadata: Metadata) -> None:
    """Simplify what paddle2onnx wrote, name its outputs, add the metadata, and check it."""
    import onnx
    import onnxslim

    model = onnxslim.slim(onnx.load(path))
    _rename_outputs(model, [output.name for output in metadata.outputs])
    model.doc_string = f"{metadata.config.name}, written by Paddle {paddle.__version__}"
    onnx.helper.set_model_props(model, {METADATA: metadata.to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _rename_outputs(model: ModelProto, names: list[str]) -> None:
    new = {value.name: name for value, name in zip(model.graph.output, names)}
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*model.graph.output, *model.graph.initializer, *model.graph.value_info):
        value.name = new.get(value.name, value.name)


if __name__ == "__main__":
    sys.exit(run(main))
