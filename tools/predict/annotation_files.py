"""Convert instances to annotations that people correct in other programs: labelme's and YOLO's files, COCO's rows.

Masks become polygons with few points: `simple_parts`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.coco_rows import CocoInstance
from data.images import encode_image
from tools.predict.instances import Instances
from tools.predict.outlines import Part, join_rings, simple_parts

_LABELME_VERSION = "5.5.0"  # whose format this is


def labelme_json(instances: Instances, picture: Path, target: Path) -> str:
    """Return the content of labelme's file `target` for a picture.

    The parts of an instance are polygons with its number, from 1, as group_id. An instance with holes is a shape of the
    kind "mask", because labelme's polygons have none. X-AnyLabeling shows the score, and labelme keeps it.
    """
    shapes: list[dict] = []
    for i, parts in _parts(instances):
        common = {"label": instances.names[i], "score": round(float(instances.scores[i]), 4), "flags": {}}
        if _has_holes(parts):
            x1, y1, x2, y2 = instances.boxes[i].tolist()
            content = encode_image(Path("mask.png"), instances.crops[i].view(np.uint8) * np.uint8(255))
            mask = base64.b64encode(content).decode("ascii")
            corners = [[x1, y1], [x2 - 1, y2 - 1]]
            shapes.append({**common, "points": corners, "group_id": None, "shape_type": "mask", "mask": mask})
            continue
        group = i + 1 if len(parts) > 1 else None
        for part in parts:
            points = part.outer.tolist()
            shapes.append({**common, "points": points, "group_id": group, "shape_type": "polygon", "mask": None})
    height, width = instances.size
    named = Path(os.path.relpath(picture, target.parent)).as_posix()
    return json.dumps(
        {
            "version": _LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": named,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        },
        indent=1,
    )


def yolo_lines(instances: Instances) -> str:
    """Return the content of YOLO's file of labels: a line per instance, class x1 y1 x2 y2 ..., in shares of the sides.

    The class is the index in `class_names`. Parts and holes are joined to one polygon, as the format wants it.
    """
    height, width = instances.size
    lines = []
    for i, parts in _parts(instances):
        points = join_rings(parts) / (width, height)
        lines.append(f"{instances.classes[i]} {' '.join(f'{value:.6f}' for value in points.ravel())}\n")
    return "".join(lines)


def yolo_lists(folder: Path, class_names: Sequence[str]) -> dict[Path, str]:
    """Return the files that YOLO's folder has once, and their content: data.yaml, and the names for other programs."""
    names = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(class_names))
    return {
        folder / "data.yaml": f"train: images\nval: images\nnames:\n{names}",
        folder / "classes.txt": "".join(f"{name}\n" for name in class_names),
    }


def coco_instances(instances: Instances) -> Iterator[tuple[int, CocoInstance]]:
    """Yield the category id and the annotation of each instance: polygons, or RLE if it has holes."""
    height, width = instances.size
    for i, parts in _parts(instances):
        name, category_id = instances.names[i], instances.category_ids[instances.classes[i]]
        if _has_holes(parts):
            rle = instances[i].to_rle()[0]
            yield category_id, CocoInstance(name, {**rle, "counts": rle["counts"].encode()})
        else:
            polygons = [part.outer.ravel().tolist() for part in parts]
            yield category_id, CocoInstance.from_polygons(name, polygons, height=height, width=width)


def _parts(instances: Instances) -> Iterator[tuple[int, list[Part]]]:
    """Yield the index and the parts of each instance, in pixels of the picture; an empty mask has none."""
    for i, (crop, box) in enumerate(zip(instances.crops, instances.boxes)):
        parts = simple_parts(crop)
        if parts:
            corner = box[:2]
            yield i, [Part(part.outer + corner, tuple(hole + corner for hole in part.holes)) for part in parts]


def _has_holes(parts: Sequence[Part]) -> bool:
    return any(part.holes for part in parts)
