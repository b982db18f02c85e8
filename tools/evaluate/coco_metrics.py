"""Metrics of COCO results: AP of boxes and masks, confused classes, and the pictures with the most mistakes.

truth = ground_truth(read_coco("annotations/val.json", "val", keep_empty=True))
evaluation = evaluate_coco(truth, rows, image_ids)
print(summary_table(evaluation.mask, evaluation.box))
worst = compare_instances(truth, rows, image_ids).pictures[:20]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from config.errors import InputError, printable
from data.class_lists import ClassList
from data.coco import CocoData
from data.coco_checks import to_rle
from data.coco_pictures import Annotation, Record

# The order of COCOeval.stats: AP averaged over IoU 0.5 to 0.95, at IoU 0.5, at 0.75, of small (area below 32^2 pixels),
# medium and large (above 96^2) objects; AR with at most 1, 10 and `max_dets` instances per picture, and with
# `max_dets` of small, medium and large objects.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR{}", "ARs", "ARm", "ARl")
COCO_MAX_DETS = 100
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotations of a data set in the form that pycocotools needs.

    source: path of the annotation file.
    image_ids: all usable pictures of the file, with and without objects.
    classes: the categories in the order of their ids.
    objects: annotations with `id`, `image_id`, `category_id`, `iscrowd`, `bbox` [x, y, width, height], `area` in pixels
        and `segmentation` as compressed RLE.
    left_out: number of annotations that cannot be used.
    """

    source: str
    image_ids: frozenset[int]
    classes: ClassList
    objects: tuple[dict, ...]
    left_out: int


@dataclass(frozen=True)
class ClassPrecision:
    """AP of one class, 0 to 1, or None if it has no objects; objects: their number, without crowds."""

    name: str
    ap: float | None
    ap50: float | None
    objects: int


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """The metrics of boxes, or those of masks.

    max_dets: number of instances per picture that count; COCO's AP has 100.
    summary: the metrics named in SUMMARY, 0 to 1, or None if the data set has no object of that size.
    classes: in the order of GroundTruth.classes.
    precision: float64 [10, 101, K], at IOU_THRESHOLDS and recall 0, 0.01 ... 1; NaN for classes without objects.
    """

    max_dets: int
    summary: Mapping[str, float | None]
    classes: tuple[ClassPrecision, ...]
    precision: np.ndarray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate_coco`. pictures: number of evaluated pictures; left_out: as in GroundTruth."""

    mask: AveragePrecision
    box: AveragePrecision
    pictures: int
    left_out: int


@dataclass(frozen=True)
class PictureQuality:
    """Counts of one picture's objects and instances, as `match_instances` pairs them."""

    image_id: int
    hits: int = 0  # objects found with the right class
    confusions: int = 0  # objects found with a wrong class
    misses: int = 0  # objects not found
    false_positives: int = 0  # instances without an object

    @property
    def mistakes(self) -> int:
        return self.confusions + self.misses + self.false_positives

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; a confusion counts as a miss and a false positive.

        It is 1 for a picture without mistakes, even if it has no objects.
        """
        wrong = 2 * self.confusions + self.misses + self.false_positives
        return 2 * self.hits / (2 * self.hits + wrong) if wrong else 1.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare_instances`.

    score: instances with a lower score were left out.
    class_names: names of the first K rows and columns.
    matrix: int64 [K + 1, K + 1], confusion matrix, true class by predicted class; the last row counts false positives,
        the last column misses.
    pictures: sorted by F1, worst first, then by the number of mistakes, most first.
    """

    score: float
    class_names: tuple[str, ...]
    matrix: np.ndarray
    pictures: tuple[PictureQuality, ...]


def ground_truth(data: CocoData) -> GroundTruth:
    """Convert what `read_coco` returns, with `keep_empty`, into the form that pycocotools needs.

    The metrics equal those that pycocotools computes from the file without the entries that `read_coco` leaves out. A
    missing `area` or `bbox` is computed from the mask.
    """
    ids = data.classes.ids
    objects = [
        _make_object(record, annotation, category_id=ids[annotation.class_index], is_crowd=is_crowd)
        for record in data.records
        for annotation, is_crowd in record.in_file_order()
    ]
    for number, item in enumerate(objects, start=1):  # not from 0: COCOeval takes the id 0 for "no match"
        item["id"] = number
    return GroundTruth(
        source=str(data.problems.file),
        image_ids=frozenset(record.image_id for record in data.records),
        classes=data.categories,
        objects=tuple(objects),
        left_out=data.left_out,
    )


def evaluate_coco(
    truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int], max_dets: int = COCO_MAX_DETS
) -> Evaluation:
    """Compute AP of boxes and masks, to the last digit as COCOeval does from the same rows in a results file.

    rows: COCO results with image_id, category_id, bbox, score and segmentation (RLE); may be empty.
    image_ids: the pictures to evaluate, also those without rows; rows of other pictures are left out.
    max_dets: number of instances per picture and class that count, those with the highest scores; more than 10.
    Small, medium and large mean the area of the mask for masks and that of the box for boxes, as in mmdetection.
    Raises InputError if a picture is not in the annotations.
    """
    return Evaluation(
        mask=mask_precision(truth, rows, image_ids, max_dets),
        box=box_precision(truth, rows, image_ids, max_dets),
        pictures=len(check_image_ids(truth, image_ids)),
        left_out=truth.left_out,
    )


def mask_precision(
    truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int], max_dets: int = COCO_MAX_DETS
) -> AveragePrecision:
    """Compute the mask AP of `evaluate_coco`; a row needs no bbox."""
    keys = ("image_id", "category_id", "score", "segmentation")
    masks = [{**{key: row[key] for key in keys}, "area": int(coco_mask.area(row["segmentation"]))} for row in rows]
    return _average_precision("segm", truth, masks, check_image_ids(truth, image_ids), max_dets)


def box_precision(
    truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int], max_dets: int = COCO_MAX_DETS
) -> AveragePrecision:
    """Compute the box AP of `evaluate_coco`; a row needs no segmentation."""
    keys = ("image_id", "category_id", "bbox")
    boxes = [
        {**{key: row[key] for key in keys}, "score": box_score(row), "area": row["bbox"][2] * row["bbox"][3]}
        for row in rows
    ]
    return _average_precision("bbox", truth, boxes, check_image_ids(truth, image_ids), max_dets)


def box_score(row: Mapping) -> float:
    """Return the score of a row's box; some networks score box and mask separately (CenterMask2)."""
    return row.get("box_score", row["score"])


def compare_instances(
    truth: GroundTruth,
    rows: Sequence[Mapping],
    image_ids: Collection[int],
    *,
    score: float = 0.5,
    iou: float = 0.5,
) -> Comparison:
    """Compare instances with annotations, picture by picture, with `match_instances`.

    rows, image_ids and errors: as in `evaluate_coco`. score: rows with a lower score are left out, as are those of
    categories that the annotations do not have.
    """
    evaluated = check_image_ids(truth, image_ids)
    rows_of, objects_of = defaultdict(list), defaultdict(list)
    for row in rows:
        if row["score"] >= score and row["category_id"] in truth.classes.ids:
            rows_of[row["image_id"]].append(row)
    for item in truth.objects:
        objects_of[item["image_id"]].append(item)
    index_of = {category_id: index for index, category_id in enumerate((*truth.classes.ids, None))}
    matrix = np.zeros((len(index_of), len(index_of)), np.int64)
    pictures = []
    for image_id in sorted(evaluated):
        pairs = match_instances(rows_of[image_id], objects_of[image_id], iou=iou)
        for true, predicted in pairs:
            matrix[index_of[true], index_of[predicted]] += 1
        pictures.append(PictureQuality(image_id, **Counter(_outcome(*pair) for pair in pairs)))
    pictures.sort(key=lambda picture: (picture.f1, -picture.mistakes))
    return Comparison(score, truth.classes.names, matrix, tuple(pictures))


def match_instances(
    rows: Sequence[Mapping], objects: Sequence[Mapping], *, iou: float = 0.5
) -> list[tuple[int | None, int | None]]:
    """Match the instances of one picture with its objects; return pairs (true category id, predicted category id).

    The true id of a false positive and the predicted id of a miss are None. In descending order of score, each instance
    takes the free object of any class whose mask has the largest IoU with its own, at least `iou`. Crowds cannot be
    missed. An unmatched instance is no mistake if at least the share `iou` of its area is in a crowd of its own class.
    rows: instances with category_id, score and segmentation; objects: those of GroundTruth; the masks of both are RLE.
    """
    rows = sorted(rows, key=lambda row: -row["score"])
    singles = [item for item in objects if not item["iscrowd"]]
    crowds = [item for item in objects if item["iscrowd"]]
    to_singles, to_crowds = mask_overlaps(rows, singles), mask_overlaps(rows, crowds)
    crowd_categories = np.array([crowd["category_id"] for crowd in crowds], object)  # an id may exceed 64 bits
    free = np.ones(len(singles), bool)
    pairs = []
    for row, overlaps, in_crowds in zip(rows, to_singles, to_crowds):
        candidates = np.flatnonzero(free & (overlaps >= iou))
        if candidates.size:
            best = candidates[overlaps[candidates].argmax()]
            free[best] = False
            pairs.append((singles[best]["category_id"], row["category_id"]))
        elif not ((in_crowds >= iou) & (crowd_categories == row["category_id"])).any():
            pairs.append((None, row["category_id"]))
    return pairs + [(singles[i]["category_id"], None) for i in np.flatnonzero(free)]


def summary_table(mask: AveragePrecision, box: AveragePrecision | None, *, classwise: bool = False) -> str:
    """Format the metrics as a text table, in percent; classwise: add the AP of each class."""
    kinds = {"mask": mask, **({"box": box} if box else {})}
    lines = ["percent" + "".join(f"{name:>7}" for name in mask.summary)]
    lines += [
        f"{kind:<7}" + "".join(f"{percent(value):>7}" for value in result.summary.values())
        for kind, result in kinds.items()
    ]
    if mask.max_dets != COCO_MAX_DETS:
        lines.append(describe_max_dets(mask.max_dets))
    if classwise:
        names = [printable(row.name) for row in mask.classes]
        width = max(map(len, ["class", *names]))
        lines += ["", f"{'class':<{width}}{'objects':>9}" + "".join(f"{kind + ' AP':>9}{'AP50':>7}" for kind in kinds)]
        lines += [
            f"{name:<{width}}{same[0].objects:>9}"
            + "".join(f"{percent(row.ap):>9}{percent(row.ap50):>7}" for row in same)
            for name, *same in zip(names, *(result.classes for result in kinds.values()))
        ]
    return "\n".join(lines)


def describe_max_dets(max_dets: int) -> str:
    """Return a sentence about AP that is not COCO's."""
    return f"At most {max_dets} instances a picture and class count here; COCO's own AP counts {COCO_MAX_DETS}."


def percent(value: float | None) -> str:
    """Format a share, 0 to 1, in percent, such as "37.9", and None as "n/a"."""
    return "n/a" if value is None else f"{value * 100:.1f}"


def _make_object(record: Record, annotation: Annotation, *, category_id: int, is_crowd: bool) -> dict:
    """Make an entry of GroundTruth.objects, without its id."""
    rle = to_rle(annotation.segmentation, record.height, record.width)
    return {
        "image_id": record.image_id,
        "category_id": category_id,
        "iscrowd": int(is_crowd),
        "bbox": coco_mask.toBbox(rle).tolist() if annotation.bbox is None else list(annotation.bbox),
        "area": int(coco_mask.area(rle)) if annotation.area is None else annotation.area,
        "segmentation": rle,
    }


def check_image_ids(truth: GroundTruth, image_ids: Collection[int]) -> set[int]:
    """Return the ids as a set. Raises InputError if the annotations lack one of them."""
    ids = set(image_ids)
    if unknown := ids - truth.image_ids:
        raise InputError(
            f"{truth.source}: lacks {len(unknown)} of the {len(ids)} evaluated pictures, for example image id "
            f"{min(unknown)}; give the annotations that the results belong to"
        )
    return ids


def _average_precision(
    kind: str, truth: GroundTruth, rows: Sequence[dict], image_ids: set[int], max_dets: int
) -> AveragePrecision:
    """Run COCOeval. kind: "segm" or "bbox"; rows: with their area."""
    # COCOeval refuses some ids that are negative or exceed 64 bits, so it gets the place of each id in their order.
    images = {image_id: place for place, image_id in enumerate(sorted(image_ids))}
    categories = {category_id: place for place, category_id in enumerate(truth.classes.ids)}
    objects = _renumber(truth.objects, images, categories)
    found = [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(_renumber(rows, images, categories), 1)]
    both = _coco_index(images, categories, objects), _coco_index(images, categories, found)
    evaluator = COCOeval_faster(*both, kind, print_function=lambda *_: None)  # it would log its progress
    evaluator.params.maxDets = [1, 10, max_dets]
    evaluator.run()
    precision = evaluator.eval["precision"][..., 0, -1]  # [10, 101, K]: all sizes, at most `max_dets` instances
    precision = np.where(precision < 0, np.nan, precision)
    counts = Counter(item["category_id"] for item in objects if not item["iscrowd"])
    return AveragePrecision(
        max_dets=max_dets,
        summary={
            name.format(max_dets): None if value < 0 else float(value) for name, value in zip(SUMMARY, evaluator.stats)
        },
        classes=tuple(
            ClassPrecision(name, _mean(precision[..., k]), _mean(precision[0, :, k]), counts[k])
            for k, name in enumerate(truth.classes.names)
        ),
        precision=precision,
    )


def _renumber(entries: Sequence[dict], images: Mapping[int, int], categories: Mapping[int, int]) -> list[dict]:
    """Return copies of the entries of these pictures and categories with the new ids that the mappings give."""
    return [
        {**entry, "image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}
        for entry in entries
        if entry["image_id"] in images and entry["category_id"] in categories
    ]


def _coco_index(images: Mapping[int, int], categories: Mapping[int, int], annotations: Sequence[dict]) -> COCO:
    """Index annotations or results as COCOeval needs them."""
    # COCOeval reads the size of a picture but does not use it, because all masks are RLE already.
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "height": 0, "width": 0} for image in images.values()],
        "categories": [{"id": category} for category in categories.values()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _mean(precision: np.ndarray) -> float | None:
    return None if np.isnan(precision).any() else float(precision.mean())


def _outcome(true: int | None, predicted: int | None) -> str:
    """Return the field of PictureQuality that counts a pair of `match_instances`."""
    if predicted is None:
        return "misses"
    if true is None:
        return "false_positives"
    return "hits" if true == predicted else "confusions"


def mask_overlaps(rows: Sequence[Mapping], objects: Sequence[Mapping]) -> np.ndarray:
    """Return the IoU of each row's mask with each object's; with a crowd, the share of the row's mask inside it.

    Returns float64 [rows, objects].
    """
    if not rows or not objects:
        return np.zeros((len(rows), len(objects)))
    crowds = [item["iscrowd"] for item in objects]
    return coco_mask.iou([row["segmentation"] for row in rows], [item["segmentation"] for item in objects], crowds)
