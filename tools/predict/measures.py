"""Measure instances for a table, and number them in a label map, as programs for microscopy do.

Names and formulas of the measures are those of scikit-image's `regionprops`, which computes them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from config.errors import InputError
from data.picture_windows import Values
from tools.predict.instances import Instances

MEASURES = (
    "area",  # pixels, as all lengths
    "centroid-0",  # row of the centre of mass, from the centre of the first pixel
    "centroid-1",  # column
    "perimeter",
    "axis_major_length",  # of the ellipse with the same second moments
    "axis_minor_length",
    "eccentricity",
    "intensity_mean",
)
COLUMNS = ("picture", "label", "class", "score", *MEASURES, "touches_border")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
MOST_LABELS = np.iinfo(np.uint16).max
_TILE = 512  # pixels
_MOST_BYTES = 2**31  # of a TIFF file; BigTIFF holds more


def label_map(instances: Instances) -> np.ndarray:
    """Return a map, uint16 [H, W], of the numbers of the instances, from 1 in their order; 0 is none of them.

    Where masks overlap, the one with the highest score counts. Raises InputError for more than 65535 instances.
    """
    if len(instances) > MOST_LABELS:
        raise InputError(f"{len(instances)} instances: a label map of 16 bits has {MOST_LABELS} at most; set --score")
    labels = np.zeros(instances.size, np.uint16)
    for i in np.argsort(instances.scores, kind="stable").tolist():
        x1, y1, x2, y2 = instances.boxes[i].tolist()
        labels[y1:y2, x1:x2][instances.crops[i]] = i + 1
    return labels


def write_label_tiff(instances: Instances, path: Path) -> None:
    """Write the map of `label_map` as a TIFF file, uint32, tile by tile, so that it need not fit into memory."""
    from tifffile import imwrite  # optional

    size = instances.size
    imwrite(
        path,
        _label_tiles(instances),
        shape=size,
        dtype=np.uint32,
        tile=(_TILE, _TILE),
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=math.prod(size) * 4 > _MOST_BYTES,
        metadata=None,
    )


def _label_tiles(instances: Instances) -> Iterator[np.ndarray]:
    """Yield the tiles of the map row by row, uint32 [_TILE, _TILE]."""
    order = np.argsort(instances.scores, kind="stable")
    boxes = instances.boxes[order]
    for top in range(0, instances.size[0], _TILE):
        in_row = np.flatnonzero((boxes[:, 1] < top + _TILE) & (boxes[:, 3] > top))
        for left in range(0, instances.size[1], _TILE):
            labels = np.zeros((_TILE, _TILE), np.uint32)
            for place in in_row[(boxes[in_row, 0] < left + _TILE) & (boxes[in_row, 2] > left)].tolist():
                i, (x1, y1, x2, y2) = int(order[place]), boxes[place].tolist()
                rows, columns = slice(max(y1, top), min(y2, top + _TILE)), slice(max(x1, left), min(x2, left + _TILE))
                crop = instances.crops[i][rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1]
                labels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left][crop] = i + 1
            yield labels


def measure(instances: Instances, values: Values, picture: str) -> list[dict]:
    """Return a row with COLUMNS for each instance; the measures of an empty mask are missing.

    values: of the picture, numbers [H, W] or [H, W, 3], whose mean over the channels is the intensity; parts are read.
    """
    from skimage.measure import regionprops  # optional

    rows = []
    for i, (crop, box) in enumerate(zip(instances.crops, instances.boxes.tolist())):
        x1, y1, x2, y2 = box
        row = {"picture": picture, "label": i + 1, "class": instances.names[i], "score": f"{instances.scores[i]:.4f}"}
        if crop.size:
            inside = values[y1:y2, x1:x2]
            (region,) = regionprops(crop.view(np.uint8), inside if inside.ndim == 2 else inside.mean(axis=2))
            centre = {"centroid-0": region.centroid[0] + y1, "centroid-1": region.centroid[1] + x1}
            found = {name: centre[name] if name in centre else region[name] for name in MEASURES}
            row.update({name: f"{value:.6g}" for name, value in found.items()})
            row["area"] = int(found["area"])  # all digits
            row["touches_border"] = int(x1 == 0 or y1 == 0 or y2 == instances.size[0] or x2 == instances.size[1])
        rows.append(row)
    return rows


def table_header() -> str:
    """Return the first line of a table in CSV."""
    return _csv_lines([dict(zip(COLUMNS, COLUMNS))])


def table_lines(rows: Sequence[dict]) -> str:
    """Return the lines of rows of `measure` in CSV."""
    # Spreadsheets take such a cell for a formula, and a name may come from anywhere.
    return _csv_lines(
        {
            **row,
            "picture": f"./{row['picture']}" if row["picture"].startswith(_FORMULA) else row["picture"],
            "class": f"'{row['class']}" if row["class"].startswith(_FORMULA) else row["class"],
        }
        for row in rows
    )


def _csv_lines(rows: Iterable[dict]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS).writerows(rows)
    return text.getvalue()
