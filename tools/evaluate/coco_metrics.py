"""How good COCO results are: AP of boxes and masks, which classes are confused, which pictures are worst.

truth = ground_truth(read_coco("annotations/val.json", "val", keep_empty=True))
evaluation = evaluate_coco(truth, rows, image_ids)
print(summary_table(evaluation))
worst = compare_instances(truth, rows, image_ids).pictures[:20]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from config.errors import InputError
from data.class_lists import ClassList
from data.coco import CocoData
from data.coco_checks import to_rle
from data.coco_pictures import Annotation, Record

# The order of COCOeval.stats: AP over IoU 0.5 to 0.95, at 0.5, at 0.75, of small (area below 32^2 pixels), medium and
# large (above 96^2) objects; AR with 1, 10 and 100 instances a picture, and with 100 of small, medium, large objects.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotations of a data set, made fit for pycocotools.

    image_ids: all usable pictures of the file, those without objects too.
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
    """AP of one class, 0 to 1, None where it has no objects; objects: their number, without crowds."""

    name: str
    ap: float | None
    ap50: float | None
    objects: int


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """The numbers of one kind, of boxes or of masks.

    summary: number by the names of SUMMARY, 0 to 1, None where the data set has no object of that size.
    classes: in the order of GroundTruth.classes.
    precision: float64 [10, 101, K], at IOU_THRESHOLDS and recall 0, 0.01 ... 1; NaN in classes without objects.
    """

    summary: Mapping[str, float | None]
    classes: tuple[ClassPrecision, ...]
    precision: np.ndarray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate_coco` found; pictures: how many were counted; left_out: as in GroundTruth."""

    mask: AveragePrecision
    box: AveragePrecision
    pictures: int
    left_out: int


@dataclass(frozen=True)
class PictureQuality:
    """Instances of one picture: found with the right class, confused (found with a wrong one), missed, false."""

    image_id: int
    found: int
    confused: int
    missed: int
    false: int

    @property
    def mistakes(self) -> int:
        return self.confused + self.missed + self.false

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, a confusion being a miss and a false one; 1 where nothing is wrong."""
        wrong = 2 * self.confused + self.missed + self.false
        return 2 * self.found / (2 * self.found + wrong) if wrong else 1.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_instances` found.

    score: instances below it were left out.
    class_names: of the first K rows and columns.
    matrix: int64 [K + 1, K + 1], true class by predicted class; the last row counts false ones, the last column misses.
    pictures: the worst first: by F1, then by the number of mistakes.
    """

    score: float
    class_names: tuple[str, ...]
    matrix: np.ndarray
    pictures: tuple[PictureQuality, ...]


def ground_truth(found: CocoData) -> GroundTruth:
    """What `read_coco` found, with `keep_empty`, made fit for pycocotools.

    pycocotools computes from the result what it computes from the file without the entries that `read_coco` left out.
    Where the file says no `area` or `bbox`, those of the mask are taken.
    """
    ids = found.classes.ids
    objects = [
        _make_object(record, annotation, category_id=ids[annotation.class_index], is_crowd=is_crowd)
        for record in found.records
        for annotation, is_crowd in record.in_file_order()
    ]
    for number, made in enumerate(objects, start=1):  # from 1 on: COCOeval takes the id 0 for "no match"
        made["id"] = number
    return GroundTruth(
        source=str(found.problems.file),
        image_ids=frozenset(record.image_id for record in found.records),
        classes=found.categories,
        objects=tuple(objects),
        left_out=found.left_out,
    )


def evaluate_coco(truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int]) -> Evaluation:
    """AP of boxes and masks, to the last digit what COCOeval computes from the same rows in a results file.

    rows: COCO results with image_id, category_id, bbox, score and segmentation (RLE); none is an ordinary value.
    image_ids: the pictures to count, those in which nothing was found too; rows of others are left out.
    Small, medium and large go by the area of the mask for masks and of the box for boxes, as in mmdetection.
    Raises InputError where a picture is not in the annotations.
    """
    return Evaluation(
        mask=mask_precision(truth, rows, image_ids),
        box=box_precision(truth, rows, image_ids),
        pictures=len(_counted(truth, image_ids)),
        left_out=truth.left_out,
    )


def mask_precision(truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int]) -> AveragePrecision:
    """The half of `evaluate_coco` that is about masks; a row needs no bbox."""
    shown = ("image_id", "category_id", "score", "segmentation")
    masks = [{**{key: row[key] for key in shown}, "area": int(coco_mask.area(row["segmentation"]))} for row in rows]
    return _average_precision("segm", truth, masks, _counted(truth, image_ids))


def box_precision(truth: GroundTruth, rows: Sequence[Mapping], image_ids: Collection[int]) -> AveragePrecision:
    """The half of `evaluate_coco` that is about boxes; a row needs no segmentation."""
    shown = ("image_id", "category_id", "bbox")
    boxes = [
        {**{key: row[key] for key in shown}, "score": box_score(row), "area": row["bbox"][2] * row["bbox"][3]}
        for row in rows
    ]
    return _average_precision("bbox", truth, boxes, _counted(truth, image_ids))


def box_score(row: Mapping) -> float:
    """The score of a row's box, which of some networks is another one than that of its mask."""
    return row.get("box_score", row["score"])


def compare_instances(
    truth: GroundTruth,
    rows: Sequence[Mapping],
    image_ids: Collection[int],
    *,
    score: float = 0.5,
    iou: float = 0.5,
) -> Comparison:
    """Match what was found with what is there, picture by picture, with `match_instances`.

    rows, image_ids and errors as in `evaluate_coco`; score: rows below it are left out, as are those of categories
    that the annotations do not have.
    """
    counted = _counted(truth, image_ids)
    found, objects = defaultdict(list), defaultdict(list)
    for row in rows:
        if row["score"] >= score and row["category_id"] in truth.classes.ids:
            found[row["image_id"]].append(row)
    for made in truth.objects:
        objects[made["image_id"]].append(made)
    places = {category_id: place for place, category_id in enumerate((*truth.classes.ids, None))}
    matrix = np.zeros((len(places), len(places)), np.int64)
    pictures = []
    for image_id in sorted(counted):
        pairs = match_instances(found[image_id], objects[image_id], iou=iou)
        for true, predicted in pairs:
            matrix[places[true], places[predicted]] += 1
        kinds = Counter(_kind(*pair) for pair in pairs)
        pictures.append(PictureQuality(image_id, *(kinds[kind] for kind in ("found", "confused", "missed", "false"))))
    pictures.sort(key=lambda picture: (picture.f1, -picture.mistakes))
    return Comparison(score, truth.classes.names, matrix, tuple(pictures))


def match_instances(
    found: Sequence[Mapping], objects: Sequence[Mapping], *, iou: float = 0.5
) -> list[tuple[int | None, int | None]]:
    """Pairs (true category id, predicted category id) of one picture; None for "not there" and "not found".

    In the order of their scores, each of the instances takes the free object whose mask overlaps it most, with at least
    this IoU and whatever its class. Crowds are not looked for, and an instance that is left over and lies, by at least
    the same share of its area, in a crowd of its own class is no mistake.
    found: rows with category_id, score and segmentation; objects: those of GroundTruth; the masks of both are RLE.
    """
    found = sorted(found, key=lambda row: -row["score"])
    singles = [made for made in objects if not made["iscrowd"]]
    crowds = [made for made in objects if made["iscrowd"]]
    to_singles, to_crowds = _overlaps(found, singles), _overlaps(found, crowds)
    crowd_categories = np.array([crowd["category_id"] for crowd in crowds])
    free = np.ones(len(singles), bool)
    pairs = []
    for row, overlaps, in_crowds in zip(found, to_singles, to_crowds):
        candidates = np.flatnonzero(free & (overlaps >= iou))
        if candidates.size:
            best = candidates[overlaps[candidates].argmax()]
            free[best] = False
            pairs.append((singles[best]["category_id"], row["category_id"]))
        elif not ((in_crowds >= iou) & (crowd_categories == row["category_id"])).any():
            pairs.append((None, row["category_id"]))
    return pairs + [(singles[i]["category_id"], None) for i in np.flatnonzero(free)]


def summary_table(evaluation: Evaluation, *, classwise: bool = False) -> str:
    """The numbers as text, in percent; classwise: also those of each class."""
    kinds = {"mask": evaluation.mask, "box": evaluation.box}
    lines = ["percent" + "".join(f"{name:>7}" for name in SUMMARY)]
    lines += [
        f"{kind:<7}" + "".join(f"{percent(result.summary[name]):>7}" for name in SUMMARY)
        for kind, result in kinds.items()
    ]
    if classwise:
        width = max([len("class"), *(len(row.name) for row in evaluation.mask.classes)])
        lines += ["", f"{'class':<{width}}{'objects':>9}{'mask AP':>9}{'AP50':>7}{'box AP':>9}{'AP50':>7}"]
        lines += [
            f"{mask.name:<{width}}{mask.objects:>9}{percent(mask.ap):>9}{percent(mask.ap50):>7}"
            f"{percent(box.ap):>9}{percent(box.ap50):>7}"
            for mask, box in zip(evaluation.mask.classes, evaluation.box.classes)
        ]
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value * 100:.1f}"


def _make_object(record: Record, annotation: Annotation, *, category_id: int, is_crowd: bool) -> dict:
    """An entry of GroundTruth.objects, still without its id."""
    rle = to_rle(annotation.segmentation, record.height, record.width)
    return {
        "image_id": record.image_id,
        "category_id": category_id,
        "iscrowd": int(is_crowd),
        "bbox": coco_mask.toBbox(rle).tolist() if annotation.bbox is None else list(annotation.bbox),
        "area": int(coco_mask.area(rle)) if annotation.area is None else annotation.area,
        "segmentation": rle,
    }


def _counted(truth: GroundTruth, image_ids: Collection[int]) -> set[int]:
    counted = set(image_ids)
    if unknown := counted - truth.image_ids:
        raise InputError(
            f"{truth.source}: lacks {len(unknown)} of the {len(counted)} pictures that were evaluated, such as "
            f"{min(unknown)}; give the annotations that the results belong to"
        )
    return counted


def _average_precision(kind: str, truth: GroundTruth, found: Sequence[dict], counted: set[int]) -> AveragePrecision:
    """kind: "segm" or "bbox"; found: rows with their area, given an id and iscrowd here."""
    found = [row for row in found if row["image_id"] in counted]
    for number, row in enumerate(found, start=1):
        row.update(id=number, iscrowd=0)
    objects = [dict(made) for made in truth.objects if made["image_id"] in counted]  # copies: COCOeval writes into them
    both = _index(truth, counted, objects), _index(truth, counted, found)
    evaluator = COCOeval_faster(*both, kind, print_function=lambda *_: None)  # it would log its progress
    evaluator.run()
    precision = evaluator.eval["precision"][..., 0, -1]  # of all sizes, with up to 100 instances a picture
    precision = np.where(precision < 0, np.nan, precision)
    numbers = Counter(made["category_id"] for made in objects if not made["iscrowd"])
    return AveragePrecision(
        summary={name: None if value < 0 else float(value) for name, value in zip(SUMMARY, evaluator.stats)},
        classes=tuple(
            ClassPrecision(name, _mean(precision[..., k]), _mean(precision[0, :, k]), numbers[category_id])
            for k, (name, category_id) in enumerate(zip(truth.classes.names, truth.classes.ids))
        ),
        precision=precision,
    )


def _index(truth: GroundTruth, counted: set[int], annotations: Sequence[dict]) -> COCO:
    # COCOeval asks for the size of a picture but does not use it, as all masks are RLE already.
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id, "height": 0, "width": 0} for image_id in counted],
        "categories": [{"id": category_id} for category_id in truth.classes.ids],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _mean(precision: np.ndarray) -> float | None:
    return None if np.isnan(precision).any() else float(precision.mean())


def _kind(true: int | None, predicted: int | None) -> str:
    if predicted is None:
        return "missed"
    if true is None:
        return "false"
    return "found" if true == predicted else "confused"


def _overlaps(found: Sequence[Mapping], objects: Sequence[Mapping]) -> np.ndarray:
    """IoU of each mask with each, float64 [n, m]; with a crowd the share of the found mask that lies in it."""
    if not found or not objects:
        return np.zeros((len(found), len(objects)))
    crowds = [made["iscrowd"] for made in objects]
    return coco_mask.iou([row["segmentation"] for row in found], [made["segmentation"] for made in objects], crowds)
