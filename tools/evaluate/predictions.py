"""Draw a few validation pictures with their annotated and predicted instances side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.coco_pictures import Record
from data.geometry import shrink
from tools.common.plots import LABEL_SIZE, MARGIN, PALE_INK, SCALE, Canvas, shorten, text_height
from tools.dataset.splits import spread_evenly
from tools.evaluate.picture_loader import PictureLoader

COUNT = 4  # pictures
SIDE = 320  # longest side of a drawing, in points
MIN_WIDTH = 200  # of a column, in points, for the text above a drawing


def draw_predictions(records: Sequence[Record], loader: PictureLoader, *, score: float) -> np.ndarray:
    """Draw pictures with instances, evenly spread over the records and the same each time: uint8 [H, W, 3] RGB.

    Each has a row: at the left the annotated instances, at the right the predicted ones of at least this score.
    """
    line = text_height(LABEL_SIZE) + 4
    shown = spread_evenly([record for record in records if record.annotations] or records, COUNT)
    rows = [(record, *_draw_pair(record, loader, score)) for record in shown]
    width = max(MIN_WIDTH, *(annotated.shape[1] / SCALE for _, annotated, _ in rows))
    height = sum(line + annotated.shape[0] / SCALE + MARGIN for _, annotated, _ in rows)
    canvas = Canvas(MARGIN + height, MARGIN + 2 * (width + MARGIN))
    y: float = MARGIN
    for record, *pair in rows:
        for column, (drawing, text) in enumerate(zip(pair, ("annotated: ", f"predicted, score {score:g} or more: "))):
            x = MARGIN + column * (width + MARGIN)
            canvas.text(x, y, shorten(f"{text}{record.file_name}", width), color=PALE_INK)
            canvas.paste(x, y + line, drawing)
        y += line + pair[0].shape[0] / SCALE + MARGIN
    return canvas.pixels


def _draw_pair(record: Record, loader: PictureLoader, score: float) -> tuple[np.ndarray, np.ndarray]:
    image, predicted, truth = loader.load(record.image_id, score)
    annotated, found = (shrink(instances.draw(image), SIDE * SCALE) for instances in (truth, predicted))
    return annotated, found
