"""The outputs of networks by name, with the names of their sides, and the lengths that a config gives the sides.

Sides with the same name are equal. {0} in the names of an output and its sides stands for the number of each level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from config.base import Config

# Of a graph that decodes the raw predictions of one picture.
INSTANCE_OUTPUTS = {
    "masks": "instances height0 width0",
    "scores": "instances",
    "classes": "instances",
    "count": "1",
}
# The same of a network that predicts boxes first; `masks` have the size of the picture.
BOX_INSTANCE_OUTPUTS = {
    **INSTANCE_OUTPUTS,
    "masks": "instances height width",
    "boxes": "instances 4",
    "box_masks": "instances side side",
    "box_scores": "instances",
}


def expand_levels(outputs: Mapping[str, str], config: Config) -> dict[str, str]:
    """Return the outputs, those with a placeholder once for each level."""
    levels = range(len(config.head.num_grids))
    return {
        name.format(level): sides.format(level)
        for name, sides in outputs.items()
        for level in (levels if "{" in name else (0,))
    }


def side_lengths(config: Config, mask_strides: Sequence[int]) -> dict[str, int]:
    """Return the lengths of the sides, by name, that a config decides.

    mask_strides: as of NetworkKind; empty for a network without grids.
    """
    size = dict(zip(("height", "width"), config.data.fixed_size))
    lengths = {**size, "instances": config.nms.max_per_img, "classes": config.num_classes}
    if mask_strides:
        lengths["cells"] = sum(grid**2 for grid in config.head.num_grids)
        lengths["instances"] = min(lengths["instances"], lengths["cells"] * config.num_classes)
        lengths.update({f"maps{level}": 2 * grid for level, grid in enumerate(config.head.num_grids)})
    for level, stride in enumerate(mask_strides):
        lengths.update({f"{name}{level}": side // stride for name, side in size.items()})
    return lengths
