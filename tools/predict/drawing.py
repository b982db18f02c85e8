"""Instances drawn on their picture: translucent masks with outlines, boxes and labels.

OpenCV draws the shapes, fast and with smooth edges; Pillow draws the text, because cv2.putText of OpenCV 4 has ASCII
glyphs only and turns every other letter into '?'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw

from config.errors import InputError
from tools.common.fonts import WRITING_SIZE, find_font, text_color

# Bright and far apart, also from one to the next: nothing that reads as black, white or brown.
PALETTE = np.array(
    [
        (45, 110, 255),  # blue
        (255, 128, 0),  # orange
        (34, 197, 94),  # green
        (255, 62, 165),  # pink
        (0, 190, 245),  # sky
        (255, 59, 59),  # red
        (163, 224, 42),  # lime
        (140, 70, 250),  # violet
        (255, 214, 10),  # yellow
        (0, 212, 190),  # teal
        (232, 84, 255),  # magenta
        (255, 165, 145),  # salmon
    ],
    np.uint8,
)


class Drawable(Protocol):
    """The fields of n instances that are drawn; `tools.predict.instances.Instances` describes them."""

    size: tuple[int, int]
    boxes: np.ndarray
    crops: Sequence[np.ndarray]
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]


MANY = 60  # instances, from which on boxes and labels would hide the picture


@dataclass(frozen=True)
class Style:
    """Sizes that suit a picture: lengths in pixels, alpha the share of the colour in the tint of a mask."""

    outline: int
    frame: int  # 0 for no boxes and no labels
    font: int
    alpha: float


def style_for(size: tuple[int, int], count: int) -> Style:
    """Return the style for `count` instances in a picture of (height, width) pixels.

    Large pictures get wider lines and a lighter tint; `MANY` instances get a light tint in a thin outline.
    """
    side = float(np.sqrt(size[0] * size[1]))
    if count >= MANY:
        return Style(outline=max(1, round(side / 1000)), frame=0, font=0, alpha=0.3)
    return Style(
        outline=max(1, round(side / 300)),
        frame=max(1, round(side / 500)),
        font=max(9, round(6 + side / 65)),
        alpha=float(np.interp(np.log2(side), (6, 12), (0.55, 0.4))),
    )


def draw_instances(image: np.ndarray, instances: Drawable) -> np.ndarray:
    """Draw the instances on a copy of the picture.

    image: uint8 [H, W, 3] RGB, of instances.size. Returns the same shape and dtype. Instances with an empty mask are
    not drawn, and a label that does not fit into the picture even as its category id is left out, as are the boxes and
    labels of `MANY` instances or more. Raises InputError where the image has another dtype or size.
    """
    if image.dtype != np.uint8 or image.shape != (*instances.size, 3):
        raise InputError(
            f"a picture of dtype {image.dtype} and shape {image.shape}, and the instances were found in one of dtype "
            f"uint8 and shape {(*instances.size, 3)}; give that picture"
        )
    canvas = np.array(image, order="C")
    colors = pick_colors(instances.boxes)
    areas = (instances.boxes[:, 2] - instances.boxes[:, 0]) * (instances.boxes[:, 3] - instances.boxes[:, 1])
    order = [i for i in np.argsort(-areas, kind="stable").tolist() if areas[i] > 0]
    style = style_for(instances.size, len(order))
    for i in order:
        _draw_mask(canvas, image, instances.boxes[i], instances.crops[i], colors[i], style)
    for i in order if style.frame else ():
        x1, y1, x2, y2 = instances.boxes[i].tolist()
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colors[i].tolist(), style.frame)
    if style.font:
        _draw_labels(canvas, instances, order, colors, style)
    return canvas


def pick_colors(boxes: np.ndarray) -> np.ndarray:
    """Choose a colour of the palette for each of the boxes [n, 4]: uint8 [n, 3].

    Boxes that meet share a colour only where more meet than there are colours: each box in turn takes the colour whose
    nearest box is farthest away, of equals the one of the fewest boxes.
    """
    picks = np.zeros(len(boxes), np.int64)
    for i, box in enumerate(boxes.astype(np.int64)):
        gaps = np.maximum(boxes[:i, :2] - box[2:], box[:2] - boxes[:i, 2:]).clip(min=0)  # [i, 2] along x, along y
        nearest = np.full(len(PALETTE), np.inf)
        np.minimum.at(nearest, picks[:i], np.hypot(gaps[:, 0], gaps[:, 1]))
        bearers = np.bincount(picks[:i], minlength=len(PALETTE))
        picks[i] = np.lexsort((bearers, -nearest))[0]
    return PALETTE[picks]


def _draw_mask(
    canvas: np.ndarray, image: np.ndarray, box: np.ndarray, crop: np.ndarray, color: np.ndarray, style: Style
) -> None:
    """Tint one mask and outline it.

    The tint starts from the picture, not from the canvas: a small instance on a large one has its own colour, no mix.
    """
    x1, y1, x2, y2 = box.tolist()
    mask = crop.view(np.uint8)
    levels = np.arange(256)[:, None] * (1 - style.alpha) + color * style.alpha  # [256, 3]
    tinted = cv2.LUT(image[y1:y2, x1:x2], np.rint(levels).astype(np.uint8)[None])
    cv2.copyTo(tinted, mask, canvas[y1:y2, x1:x2])
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
    cv2.drawContours(canvas, contours, -1, color.tolist(), style.outline, cv2.LINE_AA)


def _draw_labels(
    canvas: np.ndarray, instances: Drawable, order: Sequence[int], colors: np.ndarray, style: Style
) -> None:
    """Place the labels of the best scores first, and draw them last, over the others."""
    height, width = instances.size
    placed = []
    labels = np.zeros((0, 4), np.int64)
    for i in sorted(order, key=lambda i: -instances.scores[i]):
        label = instances.classes[i]
        texts = label_texts(instances.class_names[label], instances.category_ids[label], float(instances.scores[i]))
        tag = _widest_tag(texts, style.font, tuple(colors[i].tolist()), (height, width))
        if tag is not None:
            x, y = place_label(instances.boxes[i], tag.shape[:2], (height, width), labels, instances.boxes[order])
            labels = np.vstack([labels, (x, y, x + tag.shape[1], y + tag.shape[0])])
            placed.append((x, y, tag))
    for x, y, tag in reversed(placed):
        canvas[y : y + tag.shape[0], x : x + tag.shape[1]] = tag


def label_texts(name: str, category_id: int, score: float) -> tuple[str, ...]:
    """Return the possible texts of a label, the best first; the category id replaces a name that no font can write.

    A score that is NaN, as annotated instances have, is left out.
    """
    names = (name, f"#{category_id}") if find_font(name) else (f"#{category_id}",)
    if math.isnan(score):
        return names
    return (*(f"{name} {score:.2f}" for name in names), *names)


def place_label(
    box: np.ndarray,
    tag_size: tuple[int, int],
    picture_size: tuple[int, int],
    labels: np.ndarray,
    boxes: np.ndarray,
) -> tuple[int, int]:
    """The upper left corner (x, y) of a label of tag_size inside the picture; both sizes are (height, width).

    labels: [m, 4], those that have their place; boxes: [n, 4], the drawn instances. The place hides little of both, and
    is, in order of preference, above the box, inside at its top, below it, above or below at its right end, inside at
    its bottom, to its right, to its left.
    """
    (height, width), (picture_height, picture_width) = tag_size, picture_size
    x1, y1, x2, y2 = box.tolist()
    above, below, flush_right = y1 - height, y2, x2 - width
    places = [(x1, above), (x1, y1), (x1, below), (flush_right, above), (flush_right, below), (x1, y2 - height)]
    places += [(x2, y1), (x1 - width, y1)]
    corners = np.clip(places, 0, (picture_width - width, picture_height - height))
    tags = np.concatenate([corners, corners + (width, height)], axis=1)
    # Text can be read only whole, hence 4; a sliver of a box is no reason to leave a better place, hence 0.05.
    cost = 4 * _hidden(labels, tags) + _hidden(boxes, tags) + 0.05 * np.arange(len(places))
    x, y = corners[np.argmin(cost)].tolist()
    return x, y


def _hidden(rectangles: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """For each of the covers [k, 4], how many rectangles [m, 4] it hides, counting parts of their area: float [k]."""
    starts = np.maximum(covers[:, None, :2], rectangles[:, :2])  # [k, m, 2]
    common = (np.minimum(covers[:, None, 2:], rectangles[:, 2:]) - starts).clip(min=0).prod(axis=2)
    return (common / (rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1)).sum(axis=1)


def _widest_tag(
    texts: Sequence[str], font_size: int, color: tuple[int, int, int], picture_size: tuple[int, int]
) -> np.ndarray | None:
    """The first text that fits into the picture, written on its tag, uint8 [h, w, 3]; None where none does."""
    scale = font_size / WRITING_SIZE
    margin = WRITING_SIZE // 4
    for text in texts:
        font = find_font(text)
        if font is None:
            continue
        ascent, descent = font.getmetrics()
        full_width, full_height = round(font.getlength(text)) + 2 * margin, ascent + descent
        width, height = round(full_width * scale), round(full_height * scale)
        if height <= picture_size[0] and width <= picture_size[1]:
            page = Image.new("L", (full_width, full_height))
            ImageDraw.Draw(page).text((margin, ascent), text, 255, font, anchor="ls")
            ink = cv2.resize(np.asarray(page), (width, height), interpolation=cv2.INTER_AREA)
            inks = np.linspace(color, text_color(color), 256).round().astype(np.uint8)  # [256, 3]
            return inks[ink]
    return None
