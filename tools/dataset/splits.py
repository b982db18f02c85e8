"""Read and check the training and validation data of a config; generated data sets are drawn first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from config.base import PROJECT, Config
from config.errors import InputError, listed
from data.class_lists import read_class_list
from data.coco import CocoData, Record, check_same_classes, read_coco
from data.coco_repeats import find_copies, find_shared
from tools.common.distributed import SINGLE_PROCESS, World
from tools.dataset.generated import SPLITS, draw_if_missing
from tools.dataset.near_copies import find_near_copies

Item = TypeVar("Item")
NOTHING_TO_LEARN = "no picture has a usable annotation; annotate some pictures, or correct what is listed above"


def read_splits(config: Config, splits: Sequence[str], *, world: World = SINGLE_PROCESS) -> dict[str, CocoData]:
    """Read the annotation files of the splits, "train" or "val", including pictures without instances.

    Raises InputError if a file cannot be used, or if the classes of the files, and of the config's class list if it has
    one, differ.
    """
    data = {}
    for split in splits:
        draw_if_missing(config, split, world=world)
        path, pictures = (getattr(config, f"{split}_{field}") for field in ("path", "pre_path"))
        data[split] = read_coco(PROJECT / path, PROJECT / pictures, keep_empty=True)
    class_lists = {getattr(config, f"{split}_path"): coco.classes for split, coco in data.items()}
    if config.lists_its_classes:
        class_lists = {config.classes_path: read_class_list(config.classes_file), **class_lists}
    (first_name, first), *others = class_lists.items()
    for name, classes in others:
        check_same_classes(first, classes, first_name=first_name, second_name=name)
        check_same_classes(classes, first, first_name=name, second_name=first_name)
    return data


def describe_overlap(data: Mapping[str, CocoData], *, copies: bool = False) -> list[str]:
    """Return a line if training and validation have pictures in common; none if one of the splits is not in `data`.

    copies: another line if they have different files with the same name and content.
    """
    if len(data) < len(SPLITS):
        return []
    train, val = (data[split] for split in SPLITS)
    found = {"are also in": find_shared(train.records, val.records)}
    if copies:
        found["have the name and content of others in"] = find_copies(train.records, val.records)
    return [
        _overlap_line(data, relation, [repr(record.file_name) for record in records])
        for relation, records in found.items()
        if records
    ]


def describe_near_copies(data: Mapping[str, CocoData], config: Config) -> list[str]:
    """Return a line if validation pictures look like training pictures, apart from those of `describe_overlap`.

    All pictures are read. There is no line if one of the splits is not in `data`.
    """
    if len(data) < len(SPLITS):
        return []
    train, val = (data[split].records for split in SPLITS)
    named = {record.path for record in [*find_shared(train, val), *find_copies(train, val)]}
    others = [record for record in val if record.path not in named]
    pairs = find_near_copies(train, others, config.data.stretch)
    names = [f"{record.file_name!r} ({other.file_name!r})" for record, other in pairs]
    return [_overlap_line(data, "look nearly the same as others in", names)] if names else []


def _overlap_line(data: Mapping[str, CocoData], relation: str, names: Sequence[str]) -> str:
    train, val = (data[split] for split in SPLITS)
    return (
        f"{len(names)} of {len(val.records)} pictures of {val.problems.file} {relation} {train.problems.file}, "
        f"which makes the AP too high: {listed(names)}; remove them from one of the two"
    )


def records_to_learn(data: CocoData, config: Config) -> Sequence[Record]:
    """Return the pictures to train on: those with instances, and with `train_cfg.keep_empty` the others too.

    Raises InputError if there are none.
    """
    records = [record for record in data.records if record.annotations or config.train_cfg.keep_empty]
    if not records:
        raise InputError(f"{data.problems.file}: {NOTHING_TO_LEARN}, or set train_cfg.keep_empty=true")
    return records


def spread_evenly(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """Return at most `limit` of the items, evenly spread; all if `limit` is None."""
    if limit is None or limit >= len(items):
        return items
    return [items[index] for index in np.arange(limit) * len(items) // limit]
