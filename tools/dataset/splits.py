"""The data sets that a config names: read, checked, and drawn before where they are generated ones."""

from __future__ import annotations

from collections.abc import Sequence

from config.base import PROJECT, Config
from config.errors import InputError
from data.class_lists import read_class_list
from data.coco import CocoData, Record, check_same_classes, read_coco
from tools.common.distributed import ALONE, World
from tools.dataset.generated import draw_if_missing

NOTHING_TO_LEARN = "no picture has a usable annotation; annotate some"


def read_splits(config: Config, splits: Sequence[str], *, world: World = ALONE) -> dict[str, CocoData]:
    """Read the annotation files of some of the splits "train" and "val", with pictures without instances.

    Raises InputError where one cannot be used, or where the classes of the files, or of the config's list if it has one
    for its data, are not the same.
    """
    data = {}
    for split in splits:
        draw_if_missing(config, split, world=world)
        path, pictures = (getattr(config, f"{split}_{field}") for field in ("path", "pre_path"))
        data[split] = read_coco(PROJECT / path, PROJECT / pictures, keep_empty=True)
    named = {getattr(config, f"{split}_path"): found.classes for split, found in data.items()}
    if config.lists_its_classes:
        named = {config.classes_path: read_class_list(config.classes_file), **named}
    (first_name, first), *others = named.items()
    for name, classes in others:
        check_same_classes(first, classes, first_name=first_name, second_name=name)
        check_same_classes(classes, first, first_name=name, second_name=first_name)
    return data


def records_to_learn(found: CocoData, config: Config) -> Sequence[Record]:
    """The pictures to train on, at least one: those with instances, and as `train_cfg.keep_empty` says the others.

    Raises InputError where there is none.
    """
    records = [record for record in found.records if record.annotations or config.train_cfg.keep_empty]
    if not records:
        raise InputError(f"{found.problems.file}: {NOTHING_TO_LEARN}, or set train_cfg.keep_empty=true")
    return records
