"""Convert masks to a COCO annotation file.

    python tools/masks2coco.py images --masks masks --output datasets/cells.json --val-fraction 0.2
    python tools/masks2coco.py images --masks masks --channel red --connected --class nucleus \\
        --names train.txt --val-names validation.txt --output datasets/nuclei.json
    python tools/masks2coco.py stage1_train --output datasets/dsb.json

With --masks, a picture NAME.tif has a picture of labels NAME.png (or NAME<--suffix>.png, any format) in that folder: a
value, an index or a colour per instance. Without it, each folder NAME holds the picture in NAME/images and one mask
file per instance in NAME/masks. Masks may have 8, 16 or 32 bits. Files that do not fit are named and skipped.
Finally the options of train.py for the result are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tools.common.startup import run

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from config.errors import InputError, listed
from data.class_lists import ClassList
from data.coco_rows import CocoInstance, CocoPicture
from data.files import read_text
from data.images import find_images, has_picture_suffix, picture_size, read_stored_values
from data.written import check_output_files
from tools.common.cli import Parser, natural_number
from tools.dataset.coco_writer import (
    add_split_options,
    check_split_options,
    choose_validation,
    convert_files,
    print_reasons,
    split_outputs,
    write_splits,
)
from tools.dataset.mask_files import CHANNELS, LabelOptions, check_orientation, read_instance_files, read_labels

MANY_REGIONS = 4  # of an instance, on average over a picture


class Annotated(NamedTuple):
    """A picture and its mask files: one of labels, or one per instance."""

    picture: Path
    masks: tuple[Path, ...]
    of_labels: bool


class Converted(NamedTuple):
    """A converted picture, and what is doubtful about its masks."""

    picture: CocoPicture
    empty: tuple[Path, ...]
    shared: int  # pixels in more than one mask
    regions: int  # separate ones of all masks, if values are not reused


def pair_labels(folder: Path, masks: Path, suffix: str) -> tuple[list[Annotated], int]:
    """Return each picture of a folder with its picture of labels, and how many of both lack the other.

    These are named. suffix: what the name of the labels has after the picture's. Raises InputError if nothing fits.
    """
    labels: dict[str, list[Path]] = defaultdict(list)
    for file in find_images([masks]):
        labels[file.stem].append(file)
    pictures = find_images([folder])
    pairs = [Annotated(path, tuple(labels[key]), True) for path in pictures if (key := path.stem + suffix) in labels]
    if not pairs:
        wanted = f"{pictures[0].stem}{suffix}.png"
        raise InputError(
            f"{masks}: has no labels for {len(pictures)} pictures of {folder}, such as {wanted}; see --suffix"
        )
    if same := [pair.picture for pair in pairs if pair.picture.samefile(pair.masks[0])]:
        raise InputError(f"{same[0]}: is the picture and its labels; give the folder of the labels with --masks")
    paired, used = {pair.picture for pair in pairs}, {path for pair in pairs for path in pair.masks}
    lone = [f"{path}: has no labels in {masks}" for path in pictures if path not in paired]
    lone += [f"{path}: has no picture in {folder}" for path in chain(*labels.values()) if path not in used]
    print_reasons("skipped", lone)
    return pairs, len(lone)


def check_pairs(items: Sequence[Annotated]) -> None:
    """Raise InputError for two pictures, or two files of labels, with one name."""
    pictures: dict[Path, Path] = {}  # by the file of their labels
    for picture, masks, of_labels in items:
        if of_labels and len(masks) > 1:
            raise InputError(f"{masks[0]} and {masks[1]}: both may be the labels of one picture; keep one of them")
        if of_labels and (other := pictures.setdefault(masks[0], picture)) != picture:
            raise InputError(f"{other} and {picture}: both may be the picture of {masks[0]}; keep one of them")


def find_folders(parent: Path) -> tuple[list[Annotated], int]:
    """Return the pictures PARENT/NAME/images/* with the masks PARENT/NAME/masks/*, by name, and how many are left out.

    A folder with more or less than one picture, or without masks, is named and left out. Raises InputError if there is
    no such folder.
    """
    found, other = [], []
    for folder in sorted(path for path in parent.iterdir() if (path / "images").is_dir() or (path / "masks").is_dir()):
        if not (folder / "masks").is_dir():
            other.append(f"{folder}: has no folder masks")
            continue
        pictures = [path for path in (folder / "images").glob("[!.]*") if has_picture_suffix(path)]
        if len(pictures) != 1:
            other.append(f"{folder / 'images'}: has {len(pictures)} pictures, not the one of the masks")
            continue
        masks = sorted(path for path in (folder / "masks").glob("[!.]*") if has_picture_suffix(path))
        found.append(Annotated(pictures[0], tuple(masks), False))
    print_reasons("skipped", other)
    if not found:
        raise InputError(f"{parent}: has no folders NAME/images and NAME/masks; give --masks for pictures of labels")
    return found, len(other)


def convert(item: Annotated, folder: Path, options: LabelOptions, class_name: str) -> Converted:
    """Read the masks of a picture. Raises ImageError or UnusableFileError if it or a mask cannot be used."""
    height, width = picture_size(item.picture) or read_stored_values(item.picture).shape[:2]
    check_orientation(item.picture, (height, width))
    read = read_labels if item.of_labels else read_instance_files
    found = read(item.masks, options, (height, width))
    instances = tuple(CocoInstance.from_mask(class_name, mask) for mask in found.masks)
    picture = CocoPicture(item.picture.relative_to(folder).as_posix(), height, width, instances)
    return Converted(picture, found.empty, found.shared, found.regions)


def read_names(path: Path, items: Sequence[Annotated], folder: Path) -> set[str]:
    """Read a list of pictures, one per line, with or without suffix; return their file names relative to the folder.

    Raises InputError for a name without a picture and for an empty list.
    """
    known, stems = {}, {}
    for item in items:
        name = item.picture.relative_to(folder).as_posix()
        key = item.picture.name if item.of_labels else name.partition("/")[0]
        known.update({name: name, key: name})
        stems[_without_suffix(key)] = name
    try:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason}); give a list of pictures, one per line") from error
    found = {name: known.get(name) or stems.get(name) or stems.get(_without_suffix(name)) for name in names}
    if unknown := [name for name, picture in found.items() if not picture]:
        raise InputError(f"{path}: {len(unknown)} of {len(names)} names have no picture with masks: {listed(unknown)}")
    if not names:
        raise InputError(f"{path}: has no names; give one picture per line")
    return {picture for picture in found.values() if picture}


def _without_suffix(name: str) -> str:
    """Return a name without the suffix of a picture; a name such as well.03 has none."""
    return Path(name).stem if has_picture_suffix(Path(name)) else name


def choose_pictures(args: argparse.Namespace, items: list[Annotated]) -> tuple[list[Annotated], set[str]]:
    """Return the pictures to convert, and the file names of those that --val-names lists.

    Raises InputError for a picture that both lists name, and if none is left to train on.
    """
    val_names = read_names(args.val_names, items, args.folder) if args.val_names else set()
    if not args.names:
        if len(val_names) == len(items):
            raise InputError(
                f"{args.val_names}: names all pictures and leaves none to train on; give it with --names alone"
            )
        return items, val_names
    names = read_names(args.names, items, args.folder)
    if both := sorted(names & val_names):
        raise InputError(f"{args.names} and {args.val_names}: both name {listed(both)}; leave each in one list")
    return [item for item in items if item.picture.relative_to(args.folder).as_posix() in names | val_names], val_names


def report(converted: Sequence[Converted], skipped: int) -> None:
    """Print what was read, and the masks that are empty, overlap, or are of several instances."""
    print_reasons("left out", (f"{path}: is empty" for item in converted for path in item.empty))
    overlaps = [f"{item.picture.file_name}: {item.shared} pixels in several masks" for item in converted if item.shared]
    print_reasons("doubtful", [*overlaps, *_describe_regions(converted)])
    print(
        f"read {len(converted)} pictures, {sum(not item.picture.instances for item in converted)} of them without "
        f"instances; skipped {skipped}; left out {sum(len(item.empty) for item in converted)} empty masks; masks "
        f"overlap in {len(overlaps)} pictures"
    )


def _describe_regions(converted: Sequence[Converted]) -> Iterator[str]:
    """Yield a line each about pictures of labels whose values may be those of several instances."""
    several = [item for item in converted if item.regions > 1]
    if several and all(len(item.picture.instances) < 2 for item in converted):
        names = listed([item.picture.file_name for item in several])
        yield f"{names}: one value has several separate regions; add --connected if each of them is an instance"
        return
    for item in several:
        if item.regions > MANY_REGIONS * max(count := len(item.picture.instances), 1):
            regions = f"{item.regions} separate regions of {count} values"
            yield f"{item.picture.file_name}: {regions}; add --connected if values are reused"


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a name without tabs and line breaks")
    return text.strip()


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="folder of the pictures of labels")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="COCO file to write")
    parser.add_argument("--suffix", default="", help="end of the labels' names, such as _masks (default: none)")
    parser.add_argument("--channel", choices=CHANNELS, help="the channel with the values (default: all, as a colour)")
    parser.add_argument(
        "--background", type=natural_number, default=0, metavar="N", help="value without an instance (default: 0)"
    )
    parser.add_argument(
        "--connected",
        type=int,
        nargs="?",
        choices=(4, 8),
        const=4,
        default=0,
        help="values are reused: an instance is a connected region of a value, by 4 (default) or 8 neighbours",
    )
    parser.add_argument(
        "--class", dest="class_name", type=_name, default="object", metavar="NAME", help="(default: object)"
    )
    parser.add_argument("--names", type=Path, metavar="FILE", help="pictures to convert, one per line (default: all)")
    parser.add_argument(
        "--val-names", type=Path, metavar="FILE", help="pictures for validation, written to NAME_val.json"
    )
    add_split_options(parser)
    args = parser.parse_args(argv)
    if args.val_names and args.val_fraction:
        parser.error("--val-fraction: cannot be combined with --val-names")
    for name in ("connected", "suffix"):
        if getattr(args, name) and not args.masks:
            parser.error(f"--{name}: is for pictures of labels; add --masks DIR")
    check_split_options(args, parser)
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_options(argv)
    if not args.folder.is_dir():
        raise InputError(f"{args.folder}: no such folder; give the folder of the pictures")
    outputs = split_outputs(args.output, validation=bool(args.val_names or args.val_fraction)).values()
    check_output_files(outputs, read=filter(None, [args.names, args.val_names]), kind="annotations")
    found = pair_labels(args.folder, args.masks, args.suffix) if args.masks else find_folders(args.folder)
    items, val_names = choose_pictures(args, found[0])
    check_pairs(items)
    options = LabelOptions(CHANNELS[args.channel] if args.channel else None, args.background, args.connected)
    converted, skipped = convert_files(lambda item: convert(item, args.folder, options, args.class_name), items)
    pictures = [item.picture for item in converted]
    report(converted, found[1] + skipped)
    if not any(picture.instances for picture in pictures):
        raise InputError(f"{args.folder}: none of {len(pictures)} pictures has an instance; see the options for labels")
    if args.val_fraction:
        names = [picture.file_name for picture in pictures]
        val_names = choose_validation(names, share=args.val_fraction, seed=args.seed)
    classes = ClassList(names=(args.class_name,), ids=(1,))
    write_splits(args.output, pictures, val_names, classes, folder=args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
