"""The table of all configs that `--list` prints, and tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from config import load_config, registry
from config.base import BackboneConfig, Config
from config.errors import printable
from config.published import Published

_PUBLISHED_TITLES = ("mask AP", "box AP", "published time", "convert with", "published at")


def list_configs() -> str:
    """Return the table that `--list` prints."""
    rows: list[tuple[str, ...]] = [("", "config", "backbone", "input", "parameters", "GFLOP", *_PUBLISHED_TITLES)]
    for number in registry():
        config = load_config(number)
        first, *others = config.published or (None,)
        network = (config.name, _backbone_cell(config), _input_cell(config), *_cost_cells(config))
        rows.append((str(number), *network, *_checkpoint_cells(config, first)))
        rows += [("", *[""] * len(network), *_checkpoint_cells(config, other)) for other in others]
    return align_columns(rows)


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Format rows with the same number of cells as lines with aligned columns."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _checkpoint_cells(config: Config, published: Published | None) -> tuple[str, ...]:
    """Return the cells of a checkpoint below `_PUBLISHED_TITLES`."""
    if published is None:
        path = config.model_path("test_cfg")
        missing = f"not published; train it with train.py --config={config.number}"
        return *[""] * (len(_PUBLISHED_TITLES) - 1), str(path) if path.exists() else missing
    box_ap = "" if published.box_ap is None else f"{published.box_ap:.1f}"
    command = published.command(config.number)
    return f"{published.mask_ap:.1f}", box_ap, published.speed, command, published.where


def _backbone_cell(config: Config) -> str:
    return _BACKBONE_LABELS[config.backbone.kind](config.backbone)


def _resnet_label(backbone: BackboneConfig) -> str:
    name = f"ResNet-{backbone.depth}"
    if backbone.groups > 1:
        name = f"ResNeXt-{backbone.depth} {backbone.groups}x{backbone.base_width}d"
    if backbone.variant == "d":
        name += "-vd"
    return name + _deform_label(backbone)


def _vovnet_label(backbone: BackboneConfig) -> str:
    variant = backbone.name.partition("ese")[2].replace("_", "-")  # such as -slim-dw
    return f"VoVNetV2-{backbone.depth}-eSE{variant}{_deform_label(backbone)}"


def _deform_label(backbone: BackboneConfig) -> str:
    return f" DCNv{backbone.deform_version}" if backbone.deform_version else ""


_BACKBONE_LABELS: dict[str, Callable[[BackboneConfig], str]] = {
    "resnet": _resnet_label,
    "vovnet": _vovnet_label,
    "mobilenetv2": lambda backbone: "MobileNetV2",
    "mobilenetv3": lambda backbone: "MobileNetV3-Large",
}


def _input_cell(config: Config) -> str:
    return f"{config.data.short_side}/{config.data.long_side}"


def _cost_cells(config: Config) -> tuple[str, str]:
    return (f"{config.cost.parameters:.1f} M", f"{config.cost.gflop:.1f}") if config.cost else ("", "")
