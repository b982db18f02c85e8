"""Compare ways to find instances in large pictures: tiles joined by masks, tiles joined by boxes, and single pictures.

    python -m tests.benchmarks.tiles --nuclei datasets/nuclei/train_val.json

16 pictures of nuclei are put together to one of 2784 x 2080 pixels, and four drawn ones of 1024 x 1024 pixels, with
shapes of 20 to 500 pixels, to one. For each way it prints S, F1 and the number of pairs of instances of which the
smaller one is half in the other.

- single: each picture alone, its instances put at their place. For the shapes, each is reduced to the network's input.
- whole: the nuclei in one run of the network, with as many grid cells as 16 pictures have. It has no tiles, but the
  seams between the 16 pictures, at which halves of nuclei meet.
- masks: the tiles of `tools/predict/tiles.py`.
- boxes: the same tiles, and of overlapping boxes all are merged that have half of the smaller one in common, as the
  package SAHI does by default (Akyon et al. 2022, "Slicing Aided Hyper Inference", and its GREEDYNMM).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from config import load_config
from data.class_lists import ClassList
from data.coco import decode_mask, read_complete
from data.images import read_stored_values
from data.picture_windows import WholePicture
from data.shapes import CLASS_NAMES, draw_scene
from data.stretch import stretch_picture
from tools.common.cli import Parser, positive_number, run
from tools.evaluate.coco_metrics import GroundTruth
from tools.evaluate.match_score import MatchScore, match_at, match_curve
from tools.predict.instances import Instances
from tools.predict.load import load_predictor
from tools.predict.mask_windows import MaskCrop, Size, tight_crop
from tools.predict.predictor import Predictor
from tools.predict.tiles import TiledPicture, Tiling

NUCLEI = (4, 4)  # rows and columns of pictures
SHAPES, SCENE, DIAMETERS = (2, 2), 1024, (20, 500)
WHOLE = [
    "data.short_side=2496",
    "data.long_side=4096",
    "head.num_grids=256,144",
    "nms.nms_pre=20000",
    "nms.max_per_img=9000",
]
MERGED = 0.5  # common share of the smaller box


class Mosaic(NamedTuple):
    """A large picture, uint8 [H, W, 3], its parts with their places, and its objects."""

    name: str
    image: np.ndarray
    parts: list[tuple[int, int, np.ndarray]]  # top, left, picture
    truth: Instances


def put_together(name: str, pictures: Sequence[tuple[np.ndarray, Instances]], columns: int) -> Mosaic:
    height, width = pictures[0][0].shape[:2]
    places = [(i // columns * height, i % columns * width) for i in range(len(pictures))]
    size = (len(pictures) // columns * height, columns * width)
    image = np.zeros((*size, 3), np.uint8)
    parts = []
    for (top, left), (picture, _) in zip(places, pictures):
        image[top : top + height, left : left + width] = picture
        parts.append((top, left, picture))
    truth = place_all([(top, left, objects) for (top, left), (_, objects) in zip(places, pictures)], size)
    return Mosaic(name, image, parts, truth)


def place_all(found: Sequence[tuple[int, int, Instances]], size: Size) -> Instances:
    """Return the instances of parts at their places in a picture of this size."""
    crops, scores, labels = [], [], []
    for top, left, instances in found:
        crops += [MaskCrop(top + y1, left + x1, crop) for (x1, y1, _, _), crop in zip(instances.boxes, instances.crops)]
        scores += instances.scores.tolist()
        labels += instances.classes.tolist()
    names = found[0][2].class_names
    return Instances.from_crops(
        size, crops, np.array(scores), np.array(labels, np.int64), names, range(1, len(names) + 1)
    )


def nuclei_mosaic(annotations: Path, first: int) -> Mosaic:
    config = load_config(21)
    data = read_complete(annotations, annotations.parent / "images", ClassList(("nucleus",), (1,)))
    count = NUCLEI[0] * NUCLEI[1]
    pictures = []
    for record in data.records[first : first + count]:
        windows = [decode_mask(annotation, record.height, record.width) for annotation in record.annotations]
        crops = [MaskCrop(window.top, window.left, window.pixels) for window in windows]
        truth = Instances.from_crops(
            (record.height, record.width),
            crops,
            np.ones(len(crops)),
            np.zeros(len(crops), np.int64),
            ("nucleus",),
            (1,),
        )
        pictures.append((stretch_picture(read_stored_values(record.path), config.data.stretch), truth))
    return put_together(f"nuclei {first}", pictures, NUCLEI[1])


def shapes_mosaic(seed: int) -> Mosaic:
    pictures = []
    for index in range(SHAPES[0] * SHAPES[1]):
        rng = np.random.default_rng([seed, index])
        scene = draw_scene(rng=rng, height=SCENE, width=SCENE, diameters=[side / SCENE for side in DIAMETERS])
        truth = Instances.from_masks(scene.masks, np.ones(len(scene.classes)), scene.classes, CLASS_NAMES, range(1, 9))
        pictures.append((scene.image, truth))
    return put_together(f"shapes {seed}", pictures, SHAPES[1])


def by_masks(predictor: Predictor, mosaic: Mosaic, tiling: Tiling) -> Instances:
    picture = TiledPicture(WholePicture(mosaic.image), tiling)
    tiles = list(picture.tiles())
    return picture.join(list(zip(tiles, predictor.stream(picture.read(tile) for tile in tiles))))


def by_boxes(predictor: Predictor, mosaic: Mosaic, tiling: Tiling) -> Instances:
    """SAHI's way: the tiles and the whole picture, boxes merged greedily from the highest score on."""
    picture = TiledPicture(WholePicture(mosaic.image), tiling)
    tiles = [tile for tile in picture.tiles() if tile.level == 0]
    found = list(predictor.stream(picture.read(tile) for tile in tiles))
    placed = [(tile.window.top, tile.window.left, instances) for tile, instances in zip(tiles, found)]
    every = place_all([*placed, (0, 0, predictor(mosaic.image))], mosaic.truth.size)
    return merge_greedily(every)


def merge_greedily(found: Instances) -> Instances:
    boxes = found.boxes.astype(np.float64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = np.argsort(-found.scores, kind="stable")
    crops, kept = [], []
    while left.size:
        best, others = left[0], left[1:]
        common = (np.minimum(boxes[best, 2:], boxes[others, 2:]) - np.maximum(boxes[best, :2], boxes[others, :2])).clip(
            0
        )
        share = common.prod(axis=1) / np.maximum(np.minimum(areas[best], areas[others]), 1)
        merged = (share > MERGED) & (found.classes[others] == found.classes[best])
        crops.append(union([best, *others[merged]], found))
        kept.append(best)
        left = others[~merged]
    return Instances.from_crops(
        found.size, crops, found.scores[kept], found.classes[kept], found.class_names, found.category_ids
    )


def union(group: Sequence[int], found: Instances) -> MaskCrop:
    x1, y1 = found.boxes[group, :2].min(axis=0)
    x2, y2 = found.boxes[group, 2:].max(axis=0)
    mask = np.zeros((y2 - y1, x2 - x1), bool)
    for i in group:
        a, b, c, d = found.boxes[i]
        mask[b - y1 : d - y1, a - x1 : c - x1] |= found.crops[i]
    return tight_crop(MaskCrop(y1, x1, mask))


def singly(predictor: Predictor, mosaic: Mosaic) -> Instances:
    found = predictor.stream(picture for _, _, picture in mosaic.parts)
    return place_all([(top, left, one) for (top, left, _), one in zip(mosaic.parts, found)], mosaic.truth.size)


def score_of(found: Instances, truth: Instances, threshold: float) -> MatchScore:
    objects = []
    for row, crop in zip(truth.to_coco(1), truth.crops):
        objects.append({**row, "id": len(objects) + 1, "area": int(crop.sum()), "iscrowd": 0})
    classes = ClassList(truth.class_names, truth.category_ids)
    curve = match_curve(GroundTruth("", frozenset([1]), classes, tuple(objects), 0), found.to_coco(1), [1])
    return match_at(curve, threshold)


def doubles(found: Instances) -> int:
    """Count the pairs of instances of which the smaller one is half in the other."""
    rles = found.to_rle()
    pairs = 0
    order = np.argsort([np.count_nonzero(crop) for crop in found.crops])
    for place, i in enumerate(order.tolist()):
        later = order[place + 1 :].tolist()
        share = coco_mask.iou([rles[i]], [rles[j] for j in later], [1] * len(later)) if later else np.zeros(0)
        pairs += int((share >= 0.5).sum())
    return pairs


def compare(
    predictor: Predictor, mosaics: Sequence[Mosaic], tiling: Tiling, whole: Predictor | None, drawings: Path | None
) -> Iterator[str]:
    ways: dict[str, Callable[[Mosaic], Instances]] = {
        "single": partial(singly, predictor),
        "masks": partial(by_masks, predictor, tiling=tiling),
        "boxes": partial(by_boxes, predictor, tiling=tiling),
    }
    if whole:
        ways["whole"] = lambda mosaic: whole(mosaic.image)
    for mosaic in mosaics:
        for way, find in ways.items():
            start = time.perf_counter()
            found = find(mosaic)
            seconds = time.perf_counter() - start
            if drawings:
                found.save(drawings / f"{mosaic.name} {way}.png", mosaic.image)
            score = score_of(found, mosaic.truth, predictor.score)
            yield (
                f"{mosaic.name:<12} {way:<8} S {score.s:.4f}  F1 {score.f1:.4f}  {len(found):>5} found "
                f"{len(mosaic.truth):>5} annotated {doubles(found):>4} double  {seconds:.1f} s"
            )


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--nuclei", type=Path, metavar="FILE", help="annotations made by tools/masks2coco.py")
    parser.add_argument("--shapes", type=positive_number, default=3, metavar="N", help="drawn mosaics (default: 3)")
    parser.add_argument("--drawings", type=Path, metavar="DIR", help="write drawings of what each way finds")
    args = parser.parse_args()
    if args.nuclei:
        mosaics = [nuclei_mosaic(args.nuclei, first) for first in (0, 16, 32)]
        for line in compare(
            load_predictor(21), mosaics, Tiling(520), load_predictor(21, overrides=WHOLE), args.drawings
        ):
            print(line, flush=True)
    mosaics = [shapes_mosaic(seed) for seed in range(args.shapes)]
    for line in compare(load_predictor(20), mosaics, Tiling(256), None, args.drawings):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
