"""Check a data set before training: its problems, its content, and which instances the network's grids can learn.

    python tools/check_dataset.py --config=20
    python tools/check_dataset.py --config=1 -o train_path=my/train.json -o train_pre_path=my/pictures ... --split train

Prints the problems of single entries, pictures that look the same in training and validation, the classes, the picture
sizes, and how the instances are assigned to the network's grids at its input size and at the smallest and largest size
of training. Writes plots as PNG files.

An instance is assigned to each level whose range in target.scale_ranges contains its scale, and there to up to 3 x 3
cells. If two instances have their centre of mass in the same cell of a level, that cell can learn only one class. An
instance is crowded out if it has no centre cell of its own on any of its levels.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from tools.common.startup import run

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from os import cpu_count

import numpy as np
from tqdm import tqdm

from config import load_config
from config.base import PROJECT, Config, level_ranges
from config.errors import InputError, printable, shorten
from data.coco import CocoData, Record
from data.written import check_output_files, write_drawing
from tools.common.cli import Parser, add_data_options, natural_number, positive_number
from tools.common.kinds import kind_of
from tools.common.threads import ordered_map, worker_processes
from tools.dataset.generated import SPLITS
from tools.dataset.plots import class_plot, scale_plot
from tools.dataset.splits import NOTHING_TO_LEARN, describe_near_copies, describe_overlap, read_splits, spread_evenly
from tools.dataset.statistics import (
    AssignmentCounts,
    Measurement,
    Suggestion,
    collect_scales,
    count_assignments,
    input_sizes,
    measure,
    suggest,
    sum_counts,
)

COMMON_SIZES = 5  # number of picture sizes that are listed
COLUMNS = """
cells: cells with at least one instance, summed over the pictures
same centre: instances whose centre of mass is in the same cell as another's on the level
any shared: instances that share at least one cell with another on the level
"""


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--split", choices=(*SPLITS, "both"), default="both", help="default: both")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="folder of the PNG files (default: runs/<config name>/dataset)"
    )
    parser.add_argument(
        "--limit",
        type=positive_number,
        metavar="N",
        help="decode the masks of only N pictures, evenly spread (default: all)",
    )
    parser.add_argument(
        "--processes",
        type=natural_number,
        metavar="K",
        default=cpu_count(),
        help="processes that decode masks; 0: none besides this one (default: one per CPU)",
    )
    parser.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="do not read the pictures to find those that look the same in training and validation",
    )
    args = parser.parse_args(argv)
    config = load_config(args.config, args.overrides)
    folder = args.output or PROJECT / "runs" / config.name / "dataset"
    splits = SPLITS if args.split == "both" else (args.split,)
    # A validation set checked together with the training set is measured at one size, without suggestions.
    sizes = {split: input_sizes(config) if split == splits[0] else [config.data.short_side] for split in splits}
    check_output_files(_drawing_path(folder, split, size) for split in splits for size in [None, *sizes[split]])
    data = describe_splits(config, splits)
    for line in describe_near_copies(data, config) if args.compare else []:
        print(line)
    write_class_tables(config, data, folder)
    if not kind_of(config).has_grids:
        print(f"\n{config.name} has no grids to assign instances to", f"The drawings are in {folder}", sep="\n")
        return 0
    chosen = {split: spread_evenly(data[split].records, args.limit) for split in splits}
    with worker_processes(args.processes, items=sum(map(len, chosen.values()))) as pool:
        for split, records in chosen.items():
            pictures = measure_all(records, config, sizes[split], pool)
            print(f"\n{split}: instances in the grids, {len(records)} of {len(data[split].records)} pictures")
            by_size = dict(zip(sizes[split], zip(*pictures)))
            write_levels(config, by_size, split, folder, may_suggest=split == splits[0])
    print(COLUMNS, f"The drawings are in {folder}", sep="\n")
    return 0


def _drawing_path(folder: Path, split: str, short_side: int | None = None) -> Path:
    """Return the file of the plot of a split's classes, or of its scales at a short side."""
    return folder / (f"scales_{split}_{short_side}.png" if short_side else f"classes_{split}.png")


def describe_splits(config: Config, splits: Sequence[str]) -> dict[str, CocoData]:
    """Read the annotation files and print their content and problems. Raises InputError for one without instances."""
    data = read_splits(config, splits)
    for split, coco in data.items():
        print(f"{split}: {getattr(config, f'{split}_path')}")
        print(
            f"  {coco.pictures} pictures, {coco.empty} of them without an instance, {coco.instances} instances; "
            f"{coco.crowds} crowds, which are not trained on"
        )
        print(*describe_sizes(coco.records), sep="\n")
        for line in coco.problems.lines() or ["nothing is wrong with its entries"] * bool(coco.instances):
            print(f"  {line}")
    for coco in data.values():
        if not coco.instances:
            raise InputError(f"{coco.problems.file}: {NOTHING_TO_LEARN}")
    for line in describe_overlap(data, copies=True):
        print(line)
    lists = [config.classes_path] if config.lists_its_classes else []
    lists += [getattr(config, f"{split}_path") for split in splits]
    print(f"classes: {len(next(iter(data.values())).classes)}, the same in {', '.join(lists)}")
    return data


def describe_sizes(records: Sequence[Record]) -> Iterator[str]:
    """Yield lines with the range of the picture sizes and the most common ones."""
    for what in ("width", "height"):
        sides = [getattr(record, what) for record in records]
        yield f"  {what:<6} {min(sides)} to {max(sides)} pixels, median {np.median(sides):g}"
    sizes = Counter((record.width, record.height) for record in records)
    common = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes.most_common(COMMON_SIZES))
    yield f"  most often {common}" + (f" of {len(sizes)} sizes" if len(sizes) > COMMON_SIZES else "")


def write_class_tables(config: Config, data: dict[str, CocoData], folder: Path) -> None:
    """Print the number of instances of each class, most frequent first, and write a plot for each split."""
    classes = next(iter(data.values())).classes
    counts = {split: _count_classes(coco) for split, coco in data.items()}
    names = [shorten(printable(name)) for name in classes.names]
    width = max(map(len, names))
    print(f"\n{'class':<{width}}  {'id':>6}" + "".join(f"{split:>10}" for split in data))
    for index in sorted(range(len(classes)), key=lambda index: [-count[index] for count in counts.values()]):
        row = "".join(f"{count[index]:>10}" for count in counts.values())
        print(f"{names[index]:<{width}}  {classes.ids[index]:>6}{row}")
    for split, count in counts.items():
        missing = [name for name, number in zip(classes.names, count) if not number]
        if missing:
            print(f"{split}: {len(missing)} of {len(classes)} classes have no instance")
        title = f"{config.name}, {split}: instances of each class"
        write_drawing(_drawing_path(folder, split), class_plot(classes.names, count, title=title))


def _count_classes(data: CocoData) -> np.ndarray:
    indices = [annotation.class_index for record in data.records for annotation in record.annotations]
    return np.bincount(np.array(indices, np.int64), minlength=len(data.classes))


def measure_all(
    records: Sequence[Record], config: Config, short_sides: Sequence[int], pool: Executor | None
) -> list[list[Measurement]]:
    """Measure each record at each short side; the inner lists are in the order of `short_sides`."""
    work = partial(measure, short_sides=short_sides, config=config)
    results = ordered_map(pool, work, records, ahead=64)
    return list(tqdm(results, total=len(records), unit="picture", desc="decoding masks", disable=None))


def write_levels(
    config: Config, by_size: dict[int, Sequence[Measurement]], split: str, folder: Path, *, may_suggest: bool
) -> None:
    """Print and plot, for each short side, how the instances of a split are assigned to the levels."""
    suggestion = None
    if may_suggest:
        pooled = [measured for pictures in by_size.values() for measured in pictures]
        suggestion = suggest(pooled, head=config.head, target=config.target)
    for short_side, pictures in by_size.items():
        counts = sum_counts(count_assignments(each, head=config.head, target=config.target) for each in pictures)
        scales = collect_scales(pictures)
        print(f"\nat short side {short_side}, {scales.size} instances")
        print(*format_levels(config, counts), sep="\n")
        print(*describe_losses(pictures, counts), sep="\n")
        bands = {"target.scale_ranges": (_band_texts(config, counts, scales.size), config.target.scale_ranges)}
        if suggestion:
            bands["suggested"] = (_grid_names(config), suggestion.scale_ranges)
        title = f"{config.name}, {split}: instances at short side {short_side}"
        write_drawing(_drawing_path(folder, split, short_side), scale_plot(scales, bands, title=title))
    if suggestion:
        print(*_describe_suggestion(suggestion), sep="\n")


def format_levels(config: Config, counts: AssignmentCounts) -> Iterator[str]:
    """Yield a heading and a line for each level."""
    yield f"  {'grid':<8}  {'scales':<14}{'instances':>10}{'cells':>10}{'same centre':>13}{'any shared':>12}"
    for level, (low, high) in enumerate(level_ranges(config.target.scale_ranges)):
        yield (
            f"  {_grid_names(config)[level]:<8}  {f'{low:g} to {high:g}':<14}{counts.objects[level]:>10}"
            f"{counts.cells[level]:>10}{counts.same_centre[level]:>13}{counts.any_shared[level]:>12}"
        )


def describe_losses(pictures: Sequence[Measurement], counts: AssignmentCounts) -> Iterator[str]:
    """Yield lines with the numbers of instances that are not learnt."""
    yield f"  {counts.on_no_level} instances are on no level, {counts.crowded_out} are crowded out on all their levels"
    if counts.nested:
        yield (
            f"  {counts.nested} instances are nested: another one around or inside them has its centre in the same "
            "cell, and the network finds only one of the two"
        )
    lost, vanished = sum(picture.lost for picture in pictures), sum(picture.vanished for picture in pictures)
    yield f"  {vanished} masks are empty at the size of the targets, {lost} other instances have no pixel at this size"


def _grid_names(config: Config) -> list[str]:
    return [f"{grid} x {grid}" for grid in config.head.num_grids]


def _band_texts(config: Config, counts: AssignmentCounts, instances: int) -> list[str]:
    shares = counts.objects / max(1, instances)
    return [f"{name}: {share:.0%}" for name, share in zip(_grid_names(config), shares)]


def _describe_suggestion(suggestion: Suggestion) -> Iterator[str]:
    before, after = suggestion.before, suggestion.after
    yield "\nOther scale ranges give more instances a cell of their own. Changes, summed over the sizes above:"
    yield f"  instances on no level             {before.on_no_level} -> {after.on_no_level}"
    yield f"  instances crowded out             {before.crowded_out} -> {after.crowded_out}"
    counts = (f"{each.same_centre.sum()} of {each.objects.sum()}" for each in (before, after))
    yield f"  same centre, summed over levels   {' -> '.join(counts)}"
    yield "  -o target.scale_ranges=" + ",".join(f"{end:g}" for end in suggestion.scale_ranges)


if __name__ == "__main__":
    sys.exit(run(main))
