"""Load evaluated pictures with their predicted and annotated instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from data.class_lists import ClassList
from data.coco_pictures import Record, read_record_image
from tools.evaluate.coco_metrics import GroundTruth
from tools.predict.instances import Instances
from tools.predict.mask_windows import MaskCrop, tight_crop


class PictureLoader:
    """Load pictures with their predicted and annotated instances, for drawings.

    stretch: `data.stretch` of the config.
    """

    def __init__(
        self,
        records: Sequence[Record],
        rows: Sequence[dict],
        truth: GroundTruth,
        classes: ClassList,
        stretch: Sequence[float],
    ) -> None:
        self.records = {record.image_id: record for record in records}
        self.classes = classes
        self.stretch = stretch
        self.rows = _group_by_picture(rows)
        self.objects = _group_by_picture(truth.objects)

    def load(self, image_id: int, score: float) -> tuple[np.ndarray, Instances, Instances]:
        """Return the picture, uint8 [H, W, 3] RGB, its instances with at least this score, and the annotated ones."""
        image = read_record_image(self.records[image_id], self.stretch)
        rows = [row for row in self.rows.get(image_id, []) if row["score"] >= score]
        return image, self._to_instances(rows, image), self._to_instances(self.objects.get(image_id, []), image)

    def _to_instances(self, rows: Sequence[dict], image: np.ndarray) -> Instances:
        index_of = {category_id: index for index, category_id in enumerate(self.classes.ids)}
        return Instances.from_crops(
            image.shape[:2],
            [tight_crop(MaskCrop(0, 0, coco_mask.decode(row["segmentation"]))) for row in rows],
            np.array([row.get("score", np.nan) for row in rows]),
            np.array([index_of[row["category_id"]] for row in rows], np.int64),
            self.classes.names,
            self.classes.ids,
        )


def _group_by_picture(rows: Sequence[dict]) -> dict[int, list[dict]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["image_id"]].append(row)
    return grouped
