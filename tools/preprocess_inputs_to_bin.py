"""Write prepared inputs for a device: a raw .bin file, float32 [1, 3, H, W], for each picture, and an index.

    python tools/export.py --config=20 --input-size 352x352 --output shapes.onnx
    python tools/preprocess_inputs_to_bin.py shapes.onnx photos --output inputs
    ... the device runs the network: inputs/000000_a.bin -> outputs/000000_a_scores.bin and so on ...
    python tools/postprocess_bin_outputs.py inputs outputs --json found.json

Each picture is scaled to fit into the input size, normalised, and zero-padded at the bottom and right. index.json
contains the size of each picture in its input, and the names, types and shapes of the network's outputs. inputs.txt has
a line for each picture: its number, its .bin file, width and height of the input. A network that was exported for
pictures of any size needs --input-size; ONNX Runtime then runs it once to get the shapes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from dataclasses import replace

import numpy as np

from config.errors import InputError, listed
from config.overrides import override
from data.files import read_text
from data.images import find_images, read_image
from data.preprocess import pad_to_batch, preprocess
from data.written import check_output_files
from tools.common.cli import Parser, input_size
from tools.common.skipped import map_readable, print_note
from tools.common.threads import exit_on_ctrl_c
from tools.deploy.binary_files import INDEX, INPUT_LIST, Entry, write_array, write_index
from tools.deploy.exported import IMAGES, Metadata, check_order, metadata_of, open_exported, read_metadata
from tools.predict.jobs import image_ids


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="ONNX file from tools/export.py, or a Paddle export's NAME_metadata.json",
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders, globs")
    parser.add_argument(
        "--input-size", type=input_size, default=(), metavar="HxW", help="of the padded pictures (default: the model's)"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder for the files")
    args = parser.parse_args()
    check_order(args.model, args.pictures)
    paths = find_images(args.pictures)
    names = [_input_name(number, path) for number, path in enumerate(paths)]
    check_output_files(args.output / name for name in (INDEX, INPUT_LIST, *(f"{name}.bin" for name in names)))
    metadata = _of_size(args.model, args.input_size)
    pictures = list(zip(paths, names, image_ids(paths)))
    entries = map_readable(lambda picture: _write(*picture, metadata, args.output), pictures)
    write_index(args.output, metadata, entries)
    stale = sorted({path.name for path in args.output.glob("*.bin")} - {f"{entry.name}.bin" for entry in entries})
    if stale:
        print_note(f"{args.output}: {listed(stale)} are not of these pictures; a board that reads all files reads them")
    if len(str(args.output).split()) > 1:
        print_note(f"{args.output}: has a space, which separates the items of a line in {INPUT_LIST}")
    print(f"wrote {len(entries)} pictures, {INDEX} and {INPUT_LIST} into {args.output}")
    return 0


def _of_size(model: Path, size: tuple[int, ...]) -> Metadata:
    """Read the metadata of an exported network, with the shapes of its outputs for pictures of this size."""
    if model.suffix == ".json":
        try:
            metadata, session = metadata_of(read_text(model), model), None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{model}: cannot be read ({error}); give the file that tools/export.py wrote") from None
    else:
        session = open_exported(model)
        metadata = read_metadata(session, model)
    own = metadata.config.data.fixed_size
    if own:
        if size not in ((), own):
            raise InputError(f"--input-size {size[0]}x{size[1]}: {model} takes {own[0]}x{own[1]}; export it again")
        return metadata
    if not size:
        raise InputError(f"{model}: takes pictures of any size; choose one with --input-size, for example 480x640")
    if session is None:
        raise InputError(f"{model}: has no input size and no output shapes; export the network with --input-size")
    config = override(metadata.config, [f"data.fixed_size={size}"])
    names = [output.name for output in metadata.outputs]
    with exit_on_ctrl_c():
        arrays = session.run(names, {IMAGES: np.zeros((1, 3, *size), np.float32)})
    outputs = [replace(output, shape=array.shape) for output, array in zip(metadata.outputs, arrays)]
    return replace(metadata, config=config, outputs=tuple(outputs))


def _input_name(number: int, path: Path) -> str:
    return "_".join([f"{number:06d}", *path.stem.split()])  # spaces separate the items of a line in inputs.txt


def _write(path: Path, name: str, image_id: int, metadata: Metadata, folder: Path) -> Entry:
    data = metadata.config.data
    image = read_image(path, data.stretch)
    picture = preprocess(image, data)
    write_array(folder / f"{name}.bin", pad_to_batch([picture], data.size_divisor, data.fixed_size))
    path = Path.cwd() / path  # links stay: their names may be image ids
    return Entry(name, str(path), image.shape[:2], picture.shape[:2], image_id)


if __name__ == "__main__":
    sys.exit(run(main))
