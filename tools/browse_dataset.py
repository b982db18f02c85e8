"""Draw training samples: the augmented pictures, their instances and the grid cells that learn them.

    python tools/browse_dataset.py --config=20
    python tools/browse_dataset.py --config=1 -o train_path=my/train.json -o train_pre_path=my/pictures ... --count=50
    python tools/browse_dataset.py --config=1 --raw          only scaled to the network's input

Each drawing shows the picture at the left and a panel for each level at the right. In a panel, the cells that learn an
instance have its colour; the cell of its centre of mass has a dark frame. A cell with several instances has a stripe
for each; it learns the class of the rightmost and the masks of all. The grey rim is the padding of a batch with only
this picture; in a batch with larger pictures, more padding shifts the cells.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from tools.common.startup import run

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
from tqdm import tqdm

from config import load_config
from config.base import PROJECT, AugmentConfig, Config, level_ranges
from data.class_lists import ClassList
from data.files import check_writable
from data.geometry import resize
from data.grid_targets import CellBlock, assign_cells, box_scales, measure_extents
from data.preprocess import padded_size
from data.samples import Sample
from data.training_set import TrainingSet
from data.written import check_output_files, write_drawing
from tools.common.cli import Parser, add_data_options, add_field_option, natural_number, positive_number
from tools.common.kinds import kind_of
from tools.common.plots import INK, LABEL_SIZE, MARGIN, SCALE, Canvas, shorten, text_height
from tools.common.skipped import print_skipped
from tools.dataset.generated import SPLITS
from tools.dataset.splits import read_splits, records_to_learn
from tools.predict.drawing import pick_colors
from tools.predict.instances import Instances
from tools.predict.mask_windows import MaskCrop, tight_crop

LONG_SIDE = 900  # pixels; smaller pictures are enlarged by an integer factor to at least this length
PANEL_REDUCTION = 2  # size of the picture / size of a panel
PANEL_COLUMNS = 2
FADE = 0.8  # share of white in the background picture of a panel
PADDING, LINE = (150, 150, 150), (176, 182, 192)
ENTRY_WIDTH = 260  # of the legend, in points
NO_AUGMENTATION = AugmentConfig(flip=0.0)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    add_data_options(parser)
    parser.add_argument(
        "--split", choices=SPLITS, default="train", help="val: augment the validation pictures as in training"
    )
    parser.add_argument(
        "--count", type=positive_number, default=16, metavar="N", help="number of pictures (default: 16)"
    )
    parser.add_argument("--epoch", type=natural_number, default=0, metavar="E", help="epoch of training (default: 0)")
    add_field_option(parser, "--seed", "train_cfg.seed", type=natural_number, metavar="S")
    parser.add_argument("--raw", action="store_true", help="draw without augmentation")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="folder of the PNG files (default: runs/<config name>/pictures)"
    )
    args = parser.parse_args(argv)
    config = load_config(args.config, args.overrides)
    if args.raw:
        config = config.replace(augment=NO_AUGMENTATION)
    folder = args.output or PROJECT / "runs" / config.name / "pictures"
    check_writable(folder / "0000.png")
    data = read_splits(config, [args.split])[args.split]
    records = records_to_learn(data, config)
    training_set = TrainingSet(records, config, seed=config.train_cfg.seed, make_targets=kind_of(config).targets)
    indices = [training_set.index(args.epoch, place) for place in range(min(args.count, len(training_set)))]
    names = [f"epoch{args.epoch}_{place:04d}_{records[i].path.stem}.png" for place, i in enumerate(indices)]
    check_output_files(folder / name for name in names)
    for place, index in enumerate(tqdm(indices, unit="picture", disable=None)):
        sample = training_set.sample(args.epoch, place, index)
        drawing = draw_sample(sample, data.classes, config, title=f"{args.split}, epoch {args.epoch}, place {place}")
        write_drawing(folder / names[place], drawing)
    for reason in training_set.unreadable.values():
        print_skipped(f"{reason}; the next picture takes its place")
    print(f"{len(names)} drawings are in {folder}")
    return 0


def draw_sample(sample: Sample, classes: ClassList, config: Config, *, title: str) -> np.ndarray:
    """Draw the picture with its instances, a panel for each grid, and a legend: uint8 [H, W, 3] RGB."""
    size = padded_size(*sample.image.shape[:2], divisor=config.data.size_divisor)
    picture, colors, background, contours = _enlarge(sample, classes, size)
    panels: list[tuple[str, np.ndarray]] = []
    entries = [classes.names[label] for label in sample.gt_classes]
    if kind_of(config).has_grids:
        panels, notes = _grid_panels(sample, config, size, background, contours, colors)
        entries = [f"{entry}, {note}" for entry, note in zip(entries, notes)]
    height, width = sample.image.shape[:2]
    name = " + ".join(Path(part).name for part in sample.name.split(" + "))  # mixed pictures have two names
    title = f"{name}, {title}: {width} x {height} pixels, instances: {len(sample)}"
    return _compose(title, picture, panels, list(zip(entries, colors)))


def _grid_panels(
    sample: Sample,
    config: Config,
    size: tuple[int, int],
    background: np.ndarray,
    contours: Sequence[Sequence[np.ndarray]],
    colors: np.ndarray,
) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Draw a panel for each level; returns (heading, panel) of each, and for each instance a note on its levels.

    size: height and width of the padded picture. background, contours, colors: as in `draw_grid`.
    """
    extents = measure_extents(sample.gt_masks, sample.gt_boxes, config.target)
    blocks = assign_cells(extents, size=size, head=config.head, config=config.target)
    grids = config.head.num_grids
    panels = [draw_grid(background, contours, colors, grids, level, blocks) for level in range(len(grids))]
    headings = [
        f"{grid} x {grid}, scales {low:g} to {high:g}, instances: {sum(block.level == level for block in blocks)}"
        for level, (grid, (low, high)) in enumerate(zip(grids, level_ranges(config.target.scale_ranges)))
    ]
    levels = [[grids[block.level] for block in blocks if block.instance == index] for index in range(len(sample))]
    notes = [
        f"scale {scale:.0f}: " + (", ".join(f"{grid} x {grid}" for grid in own) or "no level")
        for scale, own in zip(box_scales(extents.sides), levels)
    ]
    return list(zip(headings, panels)), notes


def _enlarge(
    sample: Sample, classes: ClassList, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Sequence[np.ndarray]]]:
    """Enlarge a sample for drawing; size: height and width of the padded picture.

    Returns the picture with its instances drawn, their colours, uint8 [n, 3], and in the size of the panels the faded
    and padded picture and the contours of each instance.
    """
    height, width = sample.image.shape[:2]
    factor = -(-LONG_SIDE // max(size))
    large = resize(sample, height=height * factor, width=width * factor)
    masks = [tight_crop(MaskCrop(*mask)) for mask in large.gt_masks]
    instances = Instances.from_crops(
        large.image.shape[:2], masks, np.full(len(large), np.nan), large.gt_classes, classes.names, classes.ids
    )
    padded = np.full((*size, 3), PADDING, np.uint8)
    padded[:height, :width] = sample.image
    panel_size = (size[1] * factor // PANEL_REDUCTION, size[0] * factor // PANEL_REDUCTION)
    grey = cv2.cvtColor(cv2.resize(padded, panel_size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    faded = np.rint(grey[..., None].repeat(3, axis=2) * (1 - FADE) + 255 * FADE).astype(np.uint8)
    contours: list[Sequence[np.ndarray]] = []
    for mask in large.gt_masks:
        offset = (mask.left, mask.top)
        outlines, _ = cv2.findContours(mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
        contours.append([points // PANEL_REDUCTION for points in outlines])
    return instances.draw(large.image), pick_colors(instances.boxes), faded, contours


def draw_grid(
    background: np.ndarray,
    contours: Sequence[Sequence[np.ndarray]],
    colors: np.ndarray,
    grids: Sequence[int],
    level: int,
    blocks: Sequence[CellBlock],
) -> np.ndarray:
    """Draw the grid of one level with its instances on a copy of the background, uint8 [h, w, 3].

    contours: cv2 contours of each instance, in pixels of the background. colors: uint8 [n, 3]. blocks: of all levels.
    """
    panel = background.copy()
    height, width = panel.shape[:2]
    grid, first_cell = grids[level], sum(grid * grid for grid in grids[:level])
    xs, ys = (np.rint(np.arange(grid + 1) * length / grid).astype(int) for length in (width, height))
    panel[ys[1:-1]] = panel[:, xs[1:-1]] = LINE
    level_blocks = [block for block in blocks if block.level == level]
    instances_of_cell = defaultdict(list)
    for block in level_blocks:
        for cell in (block.cells - first_cell).tolist():
            instances_of_cell[cell].append(block.instance)
    for cell, instances in instances_of_cell.items():
        row, column = divmod(cell, grid)
        stripes = np.rint(np.linspace(xs[column] + 1, xs[column + 1], len(instances) + 1)).astype(int)
        for instance, x1, x2 in zip(instances, stripes, stripes[1:]):
            panel[ys[row] + 1 : ys[row + 1], x1:x2] = colors[instance]
    for block in level_blocks:
        row, column = divmod(block.centre - first_cell, grid)
        corners = (int(xs[column]), int(ys[row])), (int(xs[column + 1]), int(ys[row + 1]))
        cv2.drawContours(panel, contours[block.instance], -1, colors[block.instance].tolist(), 1, cv2.LINE_AA)
        cv2.rectangle(panel, *corners, INK, 2)
    return panel


def _compose(
    title: str,
    picture: np.ndarray,
    panels: Sequence[tuple[str, np.ndarray]],
    entries: Sequence[tuple[str, np.ndarray]],
) -> np.ndarray:
    """Place picture and legend at the left and the panels, if any, with their headings at the right.

    panels: (heading, picture). entries: (text, colour) of the legend.
    """
    line = text_height(LABEL_SIZE) + 4
    picture_height, picture_width = (side / SCALE for side in picture.shape[:2])
    panel_height, panel_width = (side / SCALE for side in panels[0][1].shape[:2]) if panels else (0, 0)
    columns = max(1, int(picture_width // ENTRY_WIDTH))
    rows = -(-len(entries) // columns)
    panel_rows = -(-len(panels) // PANEL_COLUMNS)
    top = MARGIN + 2 * line
    height = max(line + picture_height + MARGIN + rows * line, panel_rows * (line + panel_height + MARGIN))
    right = MARGIN + picture_width + MARGIN
    canvas = Canvas(top + height + MARGIN, right + bool(panels) * PANEL_COLUMNS * (panel_width + MARGIN))
    canvas.headline(title)
    canvas.paste(MARGIN, top + line, picture)
    for index, (text, color) in enumerate(entries):
        row, column = index % rows, index // rows
        x, y = MARGIN + column * ENTRY_WIDTH, top + line + picture_height + MARGIN + row * line
        canvas.rectangle(x, y + 2, x + line - 6, y + line - 4, tuple(color.tolist()))
        canvas.text(x + line, y, shorten(text, ENTRY_WIDTH - line - MARGIN))
    for index, (heading, panel) in enumerate(panels):
        row, column = divmod(index, PANEL_COLUMNS)
        x, y = right + column * (panel_width + MARGIN), top + row * (line + panel_height + MARGIN)
        canvas.text(x, y, shorten(heading, panel_width))
        canvas.paste(x, y + line, panel)
    return canvas.pixels


if __name__ == "__main__":
    sys.exit(run(main))
