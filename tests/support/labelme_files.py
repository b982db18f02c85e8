"""Annotation files as labelme writes them, and their pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 40, 60
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def shape(label: str = "cat", points: object = SQUARE, kind: str = "polygon", **more: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {"easy": True}, **more}


def write_picture(path: Path, *, height: int = HEIGHT, width: int = WIDTH, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))
    return path


def annotate(path: Path, *shapes: object, picture: str | None = None, **changes: object) -> Path:
    """Write a labelme file for the picture of the same name in the same folder, or for `picture`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": path.with_suffix(".png").name if picture is None else picture,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changes,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def add(folder: Path, name: str, *shapes: object, **changes: object) -> None:
    """Write a picture and its labelme file."""
    write_picture(folder / f"{name}.png")
    annotate(folder / f"{name}.json", *(shapes or [shape()]), **changes)


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
