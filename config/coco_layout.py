"""The folders and files of COCO below one folder, as it is published; the defaults of `Config` are this layout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from config.base import Config

DEFAULT_ROOT = "datasets/coco"
LAYOUT = {
    field: PurePosixPath(getattr(Config, field)).relative_to(DEFAULT_ROOT).as_posix()
    for split in ("train", "val", "test")
    for field in (f"{split}_path", f"{split}_pre_path")
}
LAYOUT_HINT = f"--data-root DIR takes all from a folder with {', '.join(LAYOUT.values())}"


def data_root_overrides(root: str | Path) -> list[str]:
    """Return the overrides that take all annotations and pictures from `root`, a path from the current folder."""
    return [f"{field}={Path(root).absolute() / path}" for field, path in LAYOUT.items()]
