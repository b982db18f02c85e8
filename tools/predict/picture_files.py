"""Write a file for each picture into a folder: drawings, label maps, labelme's and YOLO's files."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import Callable, Union

import numpy as np

from config.errors import InputError, listed
from data.written import write_drawing, write_output
from tools.common.skipped import print_note
from tools.common.threads import StageTimes
from tools.predict.annotation_files import labelme_json, yolo_lines, yolo_lists
from tools.predict.instances import Instances
from tools.predict.measures import label_map, write_label_tiff
from tools.predict.reduced import draw_reduced

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # other formats are written as .png
Content = Union[np.ndarray, str, Callable[[Path], None]]


@dataclass(frozen=True)
class PictureFiles:
    """One kind of file that is written for each picture.

    option: the option that chooses the folder, for messages.
    folder: where the files are written.
    suffix: the end of their names; None takes the suffix of the picture.
    stage: the name of `make` in the times.
    make: returns the content, a picture, a text or a function that writes the file, from the instances, the picture
        (uint8 [H, W, 3] RGB, reduced if it was cut into tiles), its path and the path of the file.
    copies: a folder into which the pictures are copied, named like their files; None copies none.
    lists: returns the files that are written once, with their content, from the class names.
    takes_frames: whether the frames of a video are written too, to one file.
    needs_file: whether the picture must be a file, because the written file refers to it.
    """

    option: str
    folder: Path
    suffix: str | None
    stage: str
    make: Callable[[Instances, np.ndarray, Path, Path], Content]
    copies: Path | None = None
    lists: Callable[[Sequence[str]], dict[Path, str]] = field(default=lambda names: {})
    takes_frames: bool = False
    needs_file: bool = False

    def plan(self, paths: Sequence[Path]) -> list[Path]:
        """Return a path in the folder for each picture, all different.

        It has the name of the picture, or for another picture of this name, which is printed, a number at the end, but
        no name that a third picture has. Raises InputError if a picture would be overwritten.
        """
        suffixes = [self.suffix or (path.suffix if path.suffix.lower() in WRITABLE else ".png") for path in paths]
        taken = {realpath(path) for path in paths}  # unlike Path.resolve, it accepts circular links
        named = [self.folder / f"{path.stem}{suffix}" for path, suffix in zip(paths, suffixes)]
        of_others = {realpath(target) for target in named}
        counts: dict[str, int] = defaultdict(lambda: 1)
        targets, numbered = [], []
        for path, target in zip(paths, named):
            if realpath(target) == realpath(path):
                raise InputError(f"{path}: would be overwritten; choose another folder with {self.option}")
            name = target.name
            while realpath(target) in taken or (target.name != name and realpath(target) in of_others):
                counts[name] += 1  # counted on, because thousands of folders may hold the same name
                target = self.folder / f"{path.stem}_{counts[name]}{target.suffix}"
            taken.add(realpath(target))
            targets.append(target)
            if target.name != name:
                numbered.append(f"{target.name} of {path}")
        if numbered:
            print_note(f"{self.option}: pictures of one name have outputs with numbers: {listed(numbered)}")
        return targets

    def copy_of(self, picture: Path, target: Path) -> Path | None:
        """Return the path of the picture's copy, which is named like its file `target`; None for no copy.

        A picture that is in its place already needs none.
        """
        if self.copies is None:
            return None
        copy = self.copies / f"{target.stem}{picture.suffix}"
        return None if realpath(copy) == realpath(picture) else copy

    def extra_files(self, paths: Sequence[Path], targets: Sequence[Path]) -> list[Path]:
        """Return the files that are written besides the targets of `plan`."""
        copies = [self.copy_of(path, target) for path, target in zip(paths, targets)]
        return [*filter(None, copies), *self.lists(())]

    def write(self, target: Path, instances: Instances, image: np.ndarray, picture: Path, times: StageTimes) -> None:
        """Write the file of a picture, and copy the picture if it is to be copied."""
        with times.measure(self.stage):
            content = self.make(instances, image, picture, target)
        with times.measure("write"):
            if isinstance(content, np.ndarray):
                write_drawing(target, content)
                return
            if not isinstance(content, str):
                with write_output(target) as temporary:
                    content(temporary)
                return
            if copy := self.copy_of(picture, target):
                with write_output(copy) as temporary:
                    shutil.copyfile(picture, temporary)
            write_text(target, content)


def write_text(path: Path, content: str) -> None:
    """Write a text in UTF-8 with the ends of lines that it has, as `write_output` does."""
    with write_output(path) as temporary:
        temporary.write_bytes(content.encode("utf-8"))


def drawings(folder: Path) -> PictureFiles:
    return PictureFiles(
        "--output", folder, None, "draw", lambda found, image, *_: draw_reduced(found, image), takes_frames=True
    )


def label_maps(folder: Path, *, large: bool = False) -> PictureFiles:
    """large: TIFF files of 32 bits that are written in parts, instead of PNG files of 16 bits."""
    if large:
        make: Callable = lambda found, *_: partial(write_label_tiff, found)  # noqa: E731
        return PictureFiles("--label-masks", folder, ".tif", "label map", make)
    return PictureFiles("--label-masks", folder, ".png", "label map", lambda found, *_: label_map(found))


def labelme_files(folder: Path) -> PictureFiles:
    return PictureFiles(
        "--labelme",
        folder,
        ".json",
        "annotate",
        lambda found, _, path, target: labelme_json(found, path, target),
        needs_file=True,
    )


def yolo_files(folder: Path) -> PictureFiles:
    return PictureFiles(
        "--yolo",
        folder / "labels",
        ".txt",
        "annotate",
        lambda found, *_: yolo_lines(found),
        copies=folder / "images",
        lists=lambda names: yolo_lists(folder, names),
        needs_file=True,
    )
