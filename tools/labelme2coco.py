"""Convert labelme annotations to a COCO annotation file.

    python tools/labelme2coco.py photos --output datasets/mine.json
    python tools/labelme2coco.py monday tuesday --output datasets/mine.json --val-fraction 0.1
    python tools/labelme2coco.py photos --output datasets/mine.json --labels classes.txt

Reads the .json files of the folders, without subfolders. Shapes with the same label and group id are one instance.
Polygons, rectangles, circles and lines become polygons, masks become RLE. Points, flags and the labels __ignore__ and
_background_ are left out. Pictures that exist only inside of the .json files are written to --images.
With --val-fraction, --output is for training, and NAME_val.json in the same folder is for validation.
Finally the options of train.py for the result are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tools.common.startup import run

import argparse
import base64
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

import numpy as np

from config.errors import InputError
from data.class_lists import ClassList, read_class_list
from data.coco_checks import as_integer
from data.coco_rows import CocoPicture
from data.files import atomic_write, common_folder, read_text, temporary_folder
from data.images import ImageError, read_image
from data.labelme_shapes import IGNORED_LABELS, MAX_COORDINATE, ConvertedShapes, convert_shapes
from data.written import check_output_files
from tools.common.cli import Parser, positive_number
from tools.dataset.coco_writer import (
    UnusableFileError,
    add_split_options,
    check_pictures_differ,
    check_split_options,
    choose_validation,
    convert_files,
    print_reasons,
    print_similar_names,
    split_outputs,
    write_splits,
)


@dataclass(frozen=True)
class LabelmeFile:
    """The content of a labelme file.

    source: the file. picture: the absolute path of its picture; height, width: in pixels. embedded: the picture exists
    only in the file, `extract` writes it.
    note: a warning about usable but doubtful content, or "".
    """

    source: Path
    picture: Path
    height: int
    width: int
    shapes: ConvertedShapes
    note: str
    embedded: bool


def read_labelme(path: Path, *, line_width: float, extracted: Path) -> LabelmeFile:
    """Read a labelme file and the size of its picture.

    Coordinates are in pixels of the upright picture, after its EXIF orientation, as in labelme and `read_image`.
    line_width: in pixels. extracted: the path for a picture that exists only in the file; the suffix is corrected.
    Raises UnusableFileError or ImageError if the file or its picture cannot be used, InputError if `extracted` is
    another picture.
    """
    data = _load(path)
    picture, image = _read_picture(path, data, extracted)
    height, width = image.shape[:2]
    return LabelmeFile(
        source=path,
        picture=Path(os.path.abspath(picture)),  # noqa: PTH100 (removes ".." and keeps links)
        height=height,
        width=width,
        note=_compare_sizes(path, data, height, width),
        shapes=convert_shapes(data["shapes"], height=height, width=width, line_width=line_width),
        embedded=_named_picture(path, data) is None,
    )


def _load(path: Path) -> dict:
    try:
        data = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableFileError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise UnusableFileError(f"{path}: not a labelme file (no list of shapes)")
    return data


def _read_picture(path: Path, data: dict, extracted: Path) -> tuple[Path, np.ndarray]:
    """Return path and pixels, uint8 [H, W, 3], of the picture that a file names, or else contains."""
    if picture := _named_picture(path, data):
        return picture, read_image(picture)
    if data.get("imageData"):
        return _read_embedded(path, data, extracted)
    if not (named := _picture_name(data)).name:
        raise UnusableFileError(f"{path}: has neither imagePath nor imageData of a picture; annotate it again")
    picture = path.parent / named
    raise UnusableFileError(f"{path}: its picture {picture} is no file and is not in the labelme file; add the picture")


def _named_picture(path: Path, data: dict) -> Path | None:
    """Return the path of the picture that a file names, if there is one."""
    named = _picture_name(data)
    picture = path.parent / named
    return picture if named.name and _is_file(picture) else None


def _picture_name(data: dict) -> PurePath:
    name = data.get("imagePath")
    # labelme on Windows writes backslashes.
    return PurePath(PureWindowsPath(name).as_posix()) if isinstance(name, str) else PurePath()


def _is_file(path: Path) -> bool:
    """Return whether a file exists; false also for a path the system refuses: too long or in a forbidden folder."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_embedded(path: Path, data: dict, target: Path) -> tuple[Path, np.ndarray]:
    """Return the path for the picture of a labelme file's imageData, and its pixels, uint8 [H, W, 3].

    Raises InputError if another picture is there.
    """
    content = _embedded_content(path, data)
    # labelme stores pictures of other formats as PNG or JPEG, whatever the suffix of imagePath.
    target = target.with_suffix(".png" if content.startswith(b"\x89PNG") else ".jpg")
    with temporary_folder() as folder:
        copy = folder / target.name
        copy.write_bytes(content)
        try:
            image = read_image(copy)
        except ImageError as error:
            raise UnusableFileError(f"{path}: imageData: {error.reason}") from error
    if target.is_file() and target.read_bytes() != content:
        raise InputError(f"{target}: is another picture than the one in {path}; give another folder with --images")
    return target, image


def _embedded_content(path: Path, data: dict) -> bytes:
    """Return the picture of a labelme file's imageData byte for byte."""
    try:
        return base64.b64decode("".join(data["imageData"].split()), validate=True)  # lines are allowed
    except (AttributeError, ValueError) as error:
        raise UnusableFileError(f"{path}: imageData is not a picture in base64 ({error})") from error


def extract(file: LabelmeFile) -> None:
    """Write the picture that exists only in the labelme file to its path."""
    content = _embedded_content(file.source, _load(file.source))
    with atomic_write(file.picture) as temporary:
        temporary.write_bytes(content)


def _compare_sizes(path: Path, data: dict, height: int, width: int) -> str:
    """Return a note if the stated size is not the picture's, else "". Raises UnusableFileError for swapped sides."""
    stated = (data.get("imageHeight"), data.get("imageWidth"))
    if None in stated or stated == (height, width):
        return ""
    if None in map(as_integer, stated):
        return f"{path}: imageHeight and imageWidth are not integers; {_ASSUMED}"
    sizes = f"made for {stated[1]}x{stated[0]} pixels, but the picture has {width}x{height}"
    if stated == (width, height):
        raise UnusableFileError(f"{path}: {sizes} when it is upright; save the picture upright and annotate it again")
    return f"{path}: {sizes}; {_ASSUMED}"


_ASSUMED = "the coordinates are used as pixels of the picture"


def find_labelme_files(folders: Sequence[Path]) -> list[Path]:
    """List the .json files of each folder by name, without subfolders. Raises InputError for a folder without any."""
    sources = []
    for folder in dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders):  # noqa: PTH100
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json")
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}; give a folder of labelme files") from error
        if not files:
            raise InputError(f"{folder}: no .json files in this folder; give the subfolders that contain some")
        sources += files
    return sources


def read_folders(folders: Sequence[Path], *, images: Path, line_width: float) -> list[LabelmeFile]:
    """Read the labelme files of folders; what is left out is named on stderr, with the reason.

    images: folder for pictures that exist only inside of the files; they get the files' names and subfolders.
    Raises InputError if no file can be used or two files annotate the same picture.
    """
    sources = find_labelme_files(folders)
    parent = common_folder(source.parent for source in sources)

    def read(source: Path) -> LabelmeFile:
        return read_labelme(source, line_width=line_width, extracted=images / source.relative_to(parent))

    files, skipped = convert_files(read, sources)
    check_pictures_differ((file.picture, file.source) for file in files)
    left_out = [f"{file.source}: {reason}" for file in files for reason in file.shapes.left_out]
    points = sum(file.shapes.points for file in files)
    print_reasons("left out", left_out)
    print_reasons("doubtful", [file.note for file in files if file.note])
    print(f"read {len(files)} files; skipped {skipped}; left out {len(left_out)} shapes and {points} points")
    return files


def collect_classes(files: Sequence[LabelmeFile], labels: Path | None) -> ClassList:
    """Return the classes of the file `labels`, or else all labels, sorted. Raises InputError for an unlisted label."""
    used = {instance.class_name: file.source for file in files for instance in file.shapes.instances}
    if labels is None:
        if not used:
            raise InputError(f"none of {len(files)} files has an instance; give --labels if that is intended")
        return ClassList(names=tuple(sorted(used)), ids=tuple(range(1, len(used) + 1)))
    listed = read_class_list(labels)
    for label, source in used.items():
        if label not in listed.names:
            raise InputError(f"{source}: the label '{label}' is not in {labels}; add it there or correct it here")
    # labelme's own lists start with IGNORED_LABELS. The other ids stay: the list may also be the config's classes_path.
    rows = [(name, number) for name, number in zip(listed.names, listed.ids) if name not in IGNORED_LABELS]
    return ClassList(names=tuple(name for name, _ in rows), ids=tuple(number for _, number in rows))


def to_coco_pictures(files: Sequence[LabelmeFile]) -> tuple[Path, list[CocoPicture]]:
    """Return the common folder of all pictures, and the pictures with file names relative to it."""
    folder = common_folder(file.picture.parent for file in files)
    return folder, [
        CocoPicture(file.picture.relative_to(folder).as_posix(), file.height, file.width, file.shapes.instances)
        for file in files
    ]


def parse_line_width(text: str) -> int:
    """Parse the option --line-width, in pixels."""
    number = positive_number(text)
    if number > MAX_COORDINATE:
        raise argparse.ArgumentTypeError(f"{text} is too wide; must be <= {MAX_COORDINATE:.0f}")
    return number


def _check_outputs(outputs: Collection[Path], folders: Sequence[Path], labels: Path | None) -> None:
    for output in outputs:
        if output.resolve().parent in [folder.resolve() for folder in folders]:
            raise InputError(f"{output}: all .json files of its folder are read as labelme files; give another folder")
    check_output_files(outputs, read=[labels] if labels else [], kind="annotations")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of labelme files")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="COCO file to write")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="classes, one per line (default: all labels, sorted)"
    )
    parser.add_argument("--line-width", type=parse_line_width, default=5, help="width of lines in pixels (default: 5)")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder for extracted pictures (default: <name of --output>_images)"
    )
    add_split_options(parser)
    args = parser.parse_args(argv)
    check_split_options(args, parser)
    _check_outputs(split_outputs(args.output, validation=args.val_fraction > 0).values(), args.folders, args.labels)
    images = args.images or args.output.with_name(f"{args.output.stem}_images")
    files = read_folders(args.folders, images=images, line_width=args.line_width)
    classes = collect_classes(files, args.labels)
    print_similar_names(classes)
    folder, pictures = to_coco_pictures(files)
    val_names = set()
    if args.val_fraction:
        names = [picture.file_name for picture in pictures]
        val_names = choose_validation(names, share=args.val_fraction, seed=args.seed)
    for file in files:  # after all checks, so that nothing is left behind by a conversion that is refused
        if file.embedded:
            extract(file)
    write_splits(args.output, pictures, val_names, classes, folder=folder)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
