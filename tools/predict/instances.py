"""The instances of one picture, with conversions to COCO RLE, polygons, result rows and a drawing."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from config.errors import InputError, listed, printable, shorten
from data.load_picture import Picture, load_picture
from data.written import check_output_files, write_drawing
from tools.predict.drawing import Drawable, draw_instances
from tools.predict.mask_windows import MaskCrop, tight_crop
from tools.predict.outlines import filled_rings
from tools.predict.packed_masks import Crops
from tools.predict.window import show_image

if TYPE_CHECKING:
    from supervision import Detections


class NetworkBoxes(NamedTuple):
    """The boxes that a network predicted before the masks (CenterMask2), with scores of their own."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the picture
    scores: np.ndarray  # float32 [n]


@dataclass(frozen=True, eq=False)
class Instances:
    """The n instances of one picture, at the picture's own size; n may be 0.

    A mask is stored as the part inside its box, and a large part as bits: a hundred full masks of a photo of 12
    megapixels would take 1.2 GB.

    size: (height, width) of the picture in pixels.
    boxes: int32 [n, 4], x1, y1, x2, y2 in pixels, x2 and y2 exclusive: the tight box of each mask, 0 where it is empty.
    crops: n bool arrays [y2 - y1, x2 - x1], the masks inside their boxes. Large ones are built at each access.
    scores: float32 [n], NaN of annotations.
    classes: int64 [n], 0-based index into class_names and category_ids.
    class_names: the name of each class.
    category_ids: the category id of each class in the data set.
    network_boxes: the boxes in which the masks were predicted, of networks that predict boxes first.
    stretch: `data.stretch` of the network's config; pictures that are drawn on are stretched like its input.

    Raises InputError if lengths or shapes disagree, or a class is not in class_names.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    crops: Crops | Sequence[np.ndarray]
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    network_boxes: NetworkBoxes | None = None
    stretch: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        crops = self.crops if isinstance(self.crops, Crops) else Crops(self.crops)
        object.__setattr__(self, "crops", crops)
        if not (self.boxes.shape == (len(self), 4) and self.scores.shape == self.classes.shape == (len(self),)):
            raise InputError(
                f"{len(self)} masks with boxes {self.boxes.shape}, scores {self.scores.shape}, "
                f"classes {self.classes.shape}: one row per mask is needed"
            )
        if self.network_boxes is not None and {len(part) for part in self.network_boxes} != {len(self)}:
            raise InputError(f"{len(self)} masks in {len(self.network_boxes.boxes)} boxes")
        if len(self.class_names) != len(self.category_ids):
            raise InputError(f"{len(self.class_names)} class names and {len(self.category_ids)} category ids")
        if not np.isin(self.classes, np.arange(len(self.class_names))).all():
            raise InputError(f"classes {reprlib.repr(self.classes.tolist())} of {len(self.class_names)} class names")
        for (x1, y1, x2, y2), shape in zip(self.boxes.tolist(), crops.shapes):
            if shape != (y2 - y1, x2 - x1):
                raise InputError(f"a mask of shape {shape} in the box {(x1, y1, x2, y2)}")

    @classmethod
    def from_masks(
        cls,
        masks: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        class_names: Sequence[str],
        category_ids: Sequence[int],
    ) -> Instances:
        """Build instances from full masks [n, H, W], bool or uint8 (any non-zero value is foreground).

        Raises InputError for masks of another shape or dtype, and for fractions as classes or category ids.
        """
        if getattr(masks, "ndim", None) != 3:
            raise InputError(f"masks {reprlib.repr(np.shape(masks))}: expected an array [n, H, W], bool or uint8")
        crops = [tight_crop(MaskCrop(0, 0, mask)) for mask in masks]
        return cls.from_crops(masks.shape[1:], crops, scores, classes, class_names, category_ids)

    @classmethod
    def from_crops(
        cls,
        size: tuple[int, int],
        crops: Sequence[MaskCrop],
        scores: np.ndarray,
        classes: np.ndarray,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        network_boxes: NetworkBoxes | None = None,
        stretch: tuple[float, ...] = (),
    ) -> Instances:
        """Build instances from the tight windows of their masks, bool or uint8, as `tight_crop` returns them."""
        boxes = [(left, top, left + mask.shape[1], top + mask.shape[0]) for top, left, mask in crops]
        return cls(
            size=(size[0], size[1]),
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            crops=Crops(crop.mask for crop in crops),
            scores=_as_array("scores", scores, np.float32),
            classes=_as_array("classes", classes, np.int64),
            class_names=tuple(class_names),
            category_ids=tuple(_as_array("category_ids", category_ids, np.int64).tolist()),  # for JSON
            network_boxes=network_boxes,
            stretch=stretch,
        )

    def __len__(self) -> int:
        return len(self.crops)

    def __repr__(self) -> str:
        counts = [f"{count} {printable(name)}" for name, count in Counter(self.names).most_common()]
        height, width = self.size
        return f"<Instances: {len(self)} in {width} x {height} pixels{': ' if counts else ''}{listed(counts)}>"

    def __getitem__(self, keep: int | slice | np.ndarray | Sequence[int] | Sequence[bool]) -> Instances:
        """Return the instances of an index, a slice, indices or a boolean mask [n]: `found[found.scores > 0.5]`."""
        indices = np.atleast_1d(np.arange(len(self))[keep])
        if indices.ndim > 1:
            raise IndexError(
                f"an index of {indices.ndim} dimensions: expected a number, a slice, indices or a mask [n]"
            )
        return Instances(
            size=self.size,
            boxes=self.boxes[indices],
            crops=cast(Crops, self.crops).select(indices.tolist()),
            scores=self.scores[indices],
            classes=self.classes[indices],
            class_names=self.class_names,
            category_ids=self.category_ids,
            network_boxes=self.network_boxes and NetworkBoxes(*(part[indices] for part in self.network_boxes)),
            stretch=self.stretch,
        )

    def __iter__(self) -> Iterator[Instances]:
        """Yield each instance as `Instances` of length 1."""
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[label] for label in self.classes.tolist()]

    @property
    def masks(self) -> np.ndarray:
        """The full masks, bool [n, H, W], built again at each access."""
        masks = np.zeros((len(self), *self.size), bool)
        for mask, (x1, y1, x2, y2), crop in zip(masks, self.boxes, self.crops):
            mask[y1:y2, x1:x2] = crop
        return masks

    def select(self, keep: slice | np.ndarray | Sequence[int] | Sequence[bool]) -> Instances:
        """Return `self[keep]`."""
        return self[keep]

    def to_rle(self) -> list[dict]:
        """Return COCO's compressed RLE of each mask, `counts` as str, equal to that of pycocotools."""
        height, width = self.size
        rles = []
        for box, crop in zip(self.boxes, self.crops):
            counts = _run_lengths(crop, box, self.size)
            rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            rles.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
        return rles

    def to_polygons(self) -> list[list[list[float]]]:
        """Return the outlines of each mask: per instance a list of polygons, each flat [x0, y0, x1, y1, ...] in pixels.

        The points are corners of pixels (pixel (x, y) covers x to x + 1 and y to y + 1, COCO's convention), so that
        rasterising with pycocotools gives back the same mask, except that holes are filled, with what lies in them.
        Parts that touch only at corners are one polygon. A part of one pixel is a square; an empty mask has no polygon.
        """
        return [
            [(ring + box[:2]).ravel().tolist() for ring in filled_rings(crop)]
            for box, crop in zip(self.boxes, self.crops)
        ]

    def to_coco(self, image_id: int | str = 0, polygons: bool = False) -> list[dict]:
        """Return COCO result rows; bbox is [x, y, width, height].

        image_id: an integer or a text. Raises InputError for anything else.
        With `network_boxes`, bbox is that box and the extra key `box_score` its score. With polygons, each row has the
        extra key `polygons`.
        """
        if not isinstance(image_id, (int, np.integer, str)):
            raise InputError(f"image_id={image_id!r}: expected an integer")
        image_id = image_id if isinstance(image_id, str) else int(image_id)  # JSON cannot hold numpy's integers
        rows = [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": score,
                "segmentation": rle,
            }
            for (x1, y1, x2, y2), label, score, rle in zip(
                self.boxes.tolist(), self.classes.tolist(), self.scores.tolist(), self.to_rle()
            )
        ]
        if self.network_boxes is not None:
            for row, (x1, y1, x2, y2), score in zip(rows, *(part.tolist() for part in self.network_boxes)):
                row.update(bbox=[x1, y1, x2 - x1, y2 - y1], box_score=score)
        if polygons:
            for row, outlines in zip(rows, self.to_polygons()):
                row["polygons"] = outlines
        return rows

    def to_supervision(self) -> Detections:
        """Return the Detections of the package `supervision`, whose trackers, counters and drawings take them.

        class_id is the 0-based index of the class, and `data["class_name"]` its name. The full masks are built. Raises
        InputError if the package is missing.
        """
        try:
            from supervision import Detections
        except ImportError:
            raise InputError("to_supervision: needs the package supervision; pip install supervision") from None
        return Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=self.masks,
            confidence=self.scores.copy(),
            class_id=self.classes.copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def draw(self, image: Picture) -> np.ndarray:
        """Return a copy of the picture, uint8 [H, W, 3] RGB, with the instances drawn on it.

        image: the picture that they were found in, which they do not hold: an array, the path of a file, or PIL's.
        """
        return draw_instances(load_picture(image, self.stretch), cast(Drawable, self))

    def save(self, path: str | Path, image: Picture) -> None:
        """Write the drawing of `draw` to a file, in the format of the suffix.

        Raises InputError if it cannot be written or would overwrite the picture, or a file that this project did not
        write.
        """
        if not isinstance(path, (str, Path)):
            raise InputError(f"path={path!r}: expected the path of a drawing")
        check_output_files([Path(path)], read=[image] if isinstance(image, (str, Path)) else [])
        write_drawing(Path(path), self.draw(image))

    def show(self, image: Picture) -> None:
        """Show the drawing of `draw` in the notebook, or in a window until a key is pressed.

        Raises InputError where neither is possible.
        """
        show_image(self.draw(image))


def _as_array(name: str, values: object, dtype: type) -> np.ndarray:
    """Convert numbers to an array. Raises InputError for other values, and for fractions as integers."""
    with suppress(ValueError):  # lists of different lengths
        array = np.asarray(values)
        if array.dtype.kind in "biuf" and (dtype is np.float32 or np.isin(array % 1, 0).all()):
            return array.astype(dtype)
    raise InputError(f"{name} {shorten(printable(reprlib.repr(values)))}: expected numbers of {np.dtype(dtype)}")


def _run_lengths(crop: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the lengths of the runs of 0, 1, 0, ... down the columns of the full picture, as pycocotools counts."""
    height, width = size
    x1, y1, x2, y2 = box.tolist()
    if not crop.size:
        return np.array([height * width])
    pixels = np.zeros((x2 - x1) * height + 2, bool)  # down the columns that the box touches, between two zeros
    pixels[1:-1].reshape(x2 - x1, height)[:, y1:y2] = _transposed(crop)
    edges = x1 * height + np.flatnonzero(pixels[1:] != pixels[:-1])  # start, end, start, end, ... of the runs of 1
    ends = np.append(edges, height * width)
    ends[1:] -= edges
    return ends if ends[-1] else ends[:-1]


def _transposed(crop: np.ndarray) -> np.ndarray:
    """Return the transposed mask; OpenCV is several times as fast as numpy, and Fortran order needs no copy."""
    return crop.T if crop.flags.f_contiguous else cv2.transpose(crop.view(np.uint8))
