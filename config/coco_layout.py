"""The folders and files of COCO below one folder, as it is published; the defaults of `Config` are this layout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from config.base import Config

DEFAULT_ROOT = "datasets/coco"
LAYOUT = {
    field: PurePosixPath(getattr(Config, field)).relative_to(DEFAULT_ROOT).as_posix()
    for split in ("train", "val", "test")
    for field in (f"{split}_path", f"{split}_pre_path")
}


class Remedies(NamedTuple):
    """Remedies for an annotation file or pictures that are not found, as a program states them."""

    annotations: str
    pictures: str


_LAYOUT_HINT = (
    f"--data-root DIR takes all from a folder with {', '.join(LAYOUT.values())}; docs/datasets.md says how to get and "
    "convert data"
)
CONFIG_REMEDIES = Remedies(
    annotations=f"set train_path, val_path or test_path to a COCO annotation file; {_LAYOUT_HINT}",
    pictures=f"set train_pre_path, val_pre_path or test_pre_path to the folder of the pictures; {_LAYOUT_HINT}",
)
# Of the programs that take the files as --annotations and --pictures, without a config.
OPTION_REMEDIES = Remedies(
    annotations="give a COCO annotation file with --annotations",
    pictures="give the folder of the pictures with --pictures",
)


def data_root_overrides(root: str | Path) -> list[str]:
    """Return the overrides that take all annotations and pictures from `root`, a path from the current folder."""
    return [f"{field}={Path(root).absolute() / path}" for field, path in LAYOUT.items()]
