"""Convert the instance masks of a PASCAL VOC data set to a COCO annotation file.

    python tools/voc2coco.py VOCdevkit/VOC2012 --output datasets/voc_train.json
    python tools/voc2coco.py VOCdevkit/VOC2012 --output datasets/voc_val.json --split val
    python tools/voc2coco.py mine --output datasets/mine.json --labels classes.txt

Reads the pictures listed in ImageSets/Segmentation/<split>.txt from JPEGImages, their instances from
SegmentationObject and the classes of the instances from SegmentationClass. The category ids are the class numbers of
the masks. Finally the options of train.py for the result are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tools.common.startup import run

from itertools import chain

import numpy as np
from PIL import Image

from config.errors import InputError
from data.class_lists import ClassList, read_class_list
from data.coco_rows import CocoInstance, CocoPicture
from data.files import open_regular, read_text
from data.images import read_image
from data.labelme_shapes import IGNORED_LABELS
from data.written import check_output_files
from tools.common.cli import Parser
from tools.dataset.coco_writer import (
    UnusableFileError,
    convert_files,
    print_similar_names,
    training_options,
    write_annotations,
)
from tools.dataset.mask_files import check_orientation

BACKGROUND, VOID = 0, 255  # void: the border of instances, which is neither inside nor outside
VOC_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
VOC_CLASSES = ClassList(names=VOC_NAMES, ids=tuple(range(1, len(VOC_NAMES) + 1)))


def read_split(folder: Path, split: str) -> list[str]:
    """Read the picture names, without suffix, of `folder`/ImageSets/Segmentation/`split`.txt, each once.

    Raises InputError if the list is missing or empty.
    """
    path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        text = read_text(path)
        if "\0" in text:
            raise ValueError("it contains NUL and is not a UTF-8 text")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the folder of ImageSets and --split") from error
    names = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not names:
        raise InputError(f"{path}: lists no pictures; choose another --split")
    return names


def read_indices(path: Path, *, height: int, width: int) -> np.ndarray:
    """Read the palette indices (or grey values) of a mask, uint8 [height, width], whatever colours its palette has.

    Raises UnusableFileError if it is not a picture of indices of this size.
    """
    try:
        with open_regular(path) as stream, Image.open(stream) as picture:
            mode, indices = picture.mode, np.asarray(picture)
    except Exception as error:  # for a damaged file Pillow raises ValueError, SyntaxError, IndexError and others
        reason = getattr(error, "strerror", None) or error
        raise UnusableFileError(f"{path}: cannot be read ({reason}); get the original file") from error
    if mode not in ("P", "L"):
        raise UnusableFileError(f"{path}: its pixels are colours ({mode}), not palette indices; get the original file")
    if indices.shape != (height, width):
        size = f"{indices.shape[1]}x{indices.shape[0]}"
        raise UnusableFileError(f"{path}: has {size} pixels, its picture {width}x{height}; get the original files")
    return indices


def read_classes(path: Path) -> ClassList:
    """Read the names of the classes 1, 2 ... without those of the background, with which labelme's lists start."""
    listed = read_class_list(path)
    names = tuple(name for name in listed.names if name not in IGNORED_LABELS)
    if len(names) == len(listed):
        return listed
    return ClassList(names=names, ids=tuple(range(1, len(names) + 1)))


def split_instances(objects: np.ndarray, classes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return class number and mask, bool [H, W], of each instance in the order of the instance numbers.

    objects, classes: uint8 [H, W], instance and class number of each pixel, with BACKGROUND and VOID. An instance has
    the class of most of its pixels, BACKGROUND if none of its pixels has a class.
    """
    instances = []
    for number in np.setdiff1d(objects, (BACKGROUND, VOID)):
        mask = objects == number
        votes = np.bincount(classes[mask], minlength=256)
        votes[[BACKGROUND, VOID]] = 0
        instances.append((int(votes.argmax()), mask))
    return instances


def read_voc(folder: Path, name: str, classes: ClassList) -> CocoPicture:
    """Read a picture and its two masks.

    Raises UnusableFileError or ImageError if one of them cannot be used, InputError for a class not in `classes`.
    """
    picture = folder / "JPEGImages" / f"{name}.jpg"
    height, width = read_image(picture).shape[:2]
    check_orientation(picture, (height, width))
    objects = folder / "SegmentationObject" / f"{name}.png"
    numbers = folder / "SegmentationClass" / f"{name}.png"
    masks = [read_indices(path, height=height, width=width) for path in (objects, numbers)]
    names = dict(zip(classes.ids, classes.names))
    instances = []
    for number, mask in split_instances(*masks):
        if number == BACKGROUND:
            raise UnusableFileError(f"{numbers}: has no class for one of the instances in {objects}; correct it")
        if number not in names:
            raise InputError(f"{numbers}: class {number} is not one of {len(names)} classes; list all with --labels")
        instances.append(CocoInstance.from_mask(names[number], mask))
    return CocoPicture(f"{name}.jpg", height, width, tuple(instances))


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="VOCDIR", help="folder that contains JPEGImages and ImageSets")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="COCO file to write")
    parser.add_argument("--split", default="train", help="train, val, trainval or another list (default: train)")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="classes 1, 2 ... of the masks, one per line (default: VOC's 20)"
    )
    args = parser.parse_args(argv)
    classes = read_classes(args.labels) if args.labels else VOC_CLASSES
    read = chain(args.folder.glob("*/**/*"), filter(None, [args.labels]))
    check_output_files([args.output], read=read, kind="annotations")
    print_similar_names(classes)
    names = read_split(args.folder, args.split)
    pictures, skipped = convert_files(lambda name: read_voc(args.folder, name, classes), names)
    print(f"read {len(pictures)} pictures; skipped {skipped}")
    if not any(picture.instances for picture in pictures):
        raise InputError(f"{args.folder}: none of {len(pictures)} pictures has an instance; choose another --split")
    write_annotations(args.output, pictures, classes)
    role = "val" if args.split == "val" else "train"
    print("use it with", training_options(role, args.output, args.folder / "JPEGImages"))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
