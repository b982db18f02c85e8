"""Evaluate COCO results files that exist already: the work of `eval.py --results`."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.base import PROJECT, Config
from config.errors import InputError
from data.coco import CocoData, read_coco
from data.coco_checks import UnusableError, as_integer, check_bbox, check_rle
from data.files import json_damage, read_text
from tools.dataset.generated import draw_if_missing
from tools.evaluate.coco_metrics import box_precision, ground_truth, mask_precision, summary_table
from tools.evaluate.evaluate_split import check_instances, counted_from
from tools.evaluate.match_score import match_at, match_curve, match_table

LARGEST = sys.float_info.max  # of a score; infinity and NaN are not scores


def results_table(config: Config, files: Sequence[str], *, classwise: bool, match: bool = False) -> str:
    """Return the AP of COCO results files on the validation annotations of the config, as a table.

    The first file has masks. The boxes are those of the second file, or of the first if all its entries have one.
    classwise: also the AP of each class; match: also the match score at `test_cfg.score`. Raises InputError for files
    that cannot be used.
    """
    if len(files) > 2:
        raise InputError(f"--results: {len(files)} files; give one of masks, and one of boxes if there is one")
    draw_if_missing(config, "val")
    data = read_coco(PROJECT / config.val_path, PROJECT / config.val_pre_path, keep_empty=True, check_files=False)
    check_instances(data, config)
    truth = ground_truth(data)
    masks, boxes, least = files[0], files[-1], config.eval_cfg.score or -LARGEST
    rows = _read_results(masks, "segmentation", data, least)
    max_dets = config.eval_cfg.max_dets
    mask = mask_precision(truth, rows, truth.image_ids, max_dets)
    box = None
    if len(files) == 2 or (rows and all("bbox" in row for row in rows)):
        box = box_precision(truth, _read_results(boxes, "bbox", data, least), truth.image_ids, max_dets)
    pictures = f"{len(truth.image_ids)} pictures of {config.val_path}"
    if without := len(truth.image_ids) - len({row["image_id"] for row in rows}):
        pictures += f", {without} of them without a result"
    tables = [summary_table(mask, box, classwise=classwise)]
    if match:
        tables.append(match_table(match_at(match_curve(truth, rows, truth.image_ids), counted_from(config))))
    return "\n".join([*tables, *data.problems.lines(), pictures])


def _read_results(path: str, key: str, data: CocoData, least: float) -> list[dict]:
    """Read a COCO results file and check its entries; key: "segmentation" or "bbox"; least: score of those that count.

    Raises InputError at the first entry that cannot be used.
    """
    try:
        entries = json.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a COCO results file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON or cut off ({json_damage(error)}); write or copy it again") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: not a COCO results file, which is a list of objects; give one")
    sizes = {record.image_id: (record.height, record.width) for record in data.records}
    pictures = _pictures_by_name(data)
    rows = []
    for place, entry in enumerate(entries):
        try:
            entry = {**entry, "image_id": _image_id(entry, pictures)}
            row = {**entry, **_check_entry(entry, key, sizes, data)}
        except UnusableError as error:
            remedy = "; ".join(data.problems.lines("image", "category")) or (
                f"give the results of the pictures in {data.problems.file}, with image_id, category_id, score and {key}"
            )
            raise InputError(f"{path}: the entry at index {place} is a result {error}; {remedy}") from None
        if row["score"] >= least:
            rows.append(row)
    return rows


Parts = tuple[str, ...]  # of a path


def _pictures_by_name(data: CocoData) -> dict[str, dict[Parts, list[int]]]:
    """Return the annotated pictures of each file name without its folders: their image ids by their whole name."""
    pictures: dict[str, dict[Parts, list[int]]] = defaultdict(lambda: defaultdict(list))
    for record in data.records:
        parts = Path(record.file_name).parts
        pictures[parts[-1]][parts].append(record.image_id)
    return pictures


def _image_id(entry: Mapping, pictures: Mapping[str, Mapping[Parts, list[int]]]) -> object:
    """Return the image id of an entry: that of its file name if it has one, as results of `demo.py` have.

    These programs number the pictures themselves. Raises UnusableError if no annotated picture has the name, or several
    have it in other folders.
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        return entry.get("image_id")
    parts = Path(name).parts
    same = pictures.get(parts[-1], {})
    fitting = list(same) if len(same) == 1 else [own for own in same if parts[-len(own) :] == own]
    if not fitting:
        reason = "several annotated pictures in other folders have" if same else "no annotated picture has"
        raise UnusableError(f"of {name!r}, a name that {reason}")
    ids = same[max(fitting, key=len)]
    return ids[0] if len(ids) == 1 else entry.get("image_id")  # one file as several pictures


def _is_score(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _check_entry(entry: dict, key: str, sizes: Mapping[int, tuple[int, int]], data: CocoData) -> dict:
    """Return the fields of an entry that AP depends on. Raises UnusableError if one is missing or malformed."""
    image_id, category_id = as_integer(entry.get("image_id")), as_integer(entry.get("category_id"))
    score, value = entry.get("score"), entry.get(key)
    if image_id is None or image_id not in sizes:
        raise UnusableError("of an unknown image")
    if category_id not in data.categories.ids:
        raise UnusableError("of an unknown category")
    if not all(map(_is_score, (score, entry.get("box_score", score)))):
        raise UnusableError("without a finite score")
    if key == "segmentation":
        if not isinstance(value, dict):
            raise UnusableError("without an RLE as segmentation")
        height, width = sizes[image_id]
        value = check_rle(value, height=height, width=width)
    else:
        box = check_bbox(value)
        if box is None or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
            raise UnusableError("without a bbox of four finite numbers")
        value = list(box)
    return {"image_id": image_id, "category_id": category_id, "score": score, key: value}
