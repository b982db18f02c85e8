"""Write an evaluation as a web page that needs no internet: metrics, curves and the pictures with the most mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.geometry import shrink
from data.written import write_drawing, write_output
from tools.common.plots import SCALE
from tools.evaluate.coco_metrics import (
    COCO_MAX_DETS,
    IOU_THRESHOLDS,
    Comparison,
    Evaluation,
    PictureQuality,
    describe_max_dets,
    percent,
)
from tools.evaluate.match_score import MatchScore, match_at
from tools.evaluate.report_plots import confusion_plot, match_plot, precision_recall_plot, quality_plot
from tools.predict.instances import Instances

PAGE = "index.html"
PICTURES = "pictures"  # the folder next to the page
LONGEST_SIDE = 1280  # of a drawing on the page, in pixels
WORST_COUNT = 20  # pictures to draw

_PLOTS = ("precision_recall_mask", "precision_recall_box", "confusion", "quality")
MATCH_PLOT = "match_score"
_KINDS = ("found", "annotated")  # of drawings

LoadPicture = Callable[[int, float], "tuple[np.ndarray, Instances, Instances]"]

_STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: #fff; color: #20242c;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
p { margin: 0.5rem 0; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #e4e7ec; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
th { color: #60666f; font-weight: 600; }
.name { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
.bar { min-width: 7rem; }
.bar div { height: 0.7rem; background: #185fbe; }
.wide { overflow-x: auto; }
.matrix img { max-width: none; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0.5rem; }
figure { margin: 0 0 2rem; }
figcaption { margin-bottom: 0.3rem; overflow-wrap: anywhere; }
.pair span { display: block; color: #60666f; font-size: 0.9rem; }
""".strip()


def write_report(
    folder: str | Path,
    *,
    title: str,
    evaluation: Evaluation,
    comparison: Comparison,
    curve: Sequence[MatchScore] = (),
    file_names: Mapping[int, str],
    load: LoadPicture,
    worst: int = WORST_COUNT,
) -> Path:
    """Write `index.html` and the pictures it shows into a folder; return the path of the page.

    curve: of `match_curve`, shown if it is given. file_names: name of each picture, by its id.
    load: takes an id and a score; returns the picture, uint8 [H, W, 3] RGB, its predicted instances with at least this
        score, and the annotated ones. It is called for at most `worst` pictures with mistakes, one after another.
    Raises InputError if the folder cannot be written to.
    """
    folder = Path(folder)
    plots = (
        precision_recall_plot(evaluation.mask, title="Masks"),
        precision_recall_plot(evaluation.box, title="Boxes"),
        confusion_plot(comparison),
        quality_plot(comparison.pictures),
    )
    images = {name: _write_plot(folder, name, plot) for name, plot in zip(_PLOTS, plots)}
    match = _match_section(folder, curve, comparison.score) if curve else []
    shown = [picture for picture in comparison.pictures[:worst] if picture.mistakes]
    figures = [
        _figure(folder, rank, picture, file_names[picture.image_id], load, comparison.score)
        for rank, picture in enumerate(tqdm(shown, desc="report", unit="picture", leave=False, disable=None), start=1)
    ]
    html = _page(title, _body(title, evaluation, comparison, images, match, figures))
    page = folder / PAGE
    with write_output(page) as temporary:
        # A name in an annotation file may contain a lone surrogate, which UTF-8 cannot encode.
        temporary.write_text(html, encoding="utf-8", errors="xmlcharrefreplace")
    return page


def report_files(folder: Path) -> list[Path]:
    """List the files that `write_report` may write into a folder."""
    plots = [_plot_path(folder, name) for name in (*_PLOTS, MATCH_PLOT)]
    worst = [_worst_path(folder, rank, kind) for rank in range(1, WORST_COUNT + 1) for kind in _KINDS]
    return [folder / PAGE, *plots, *worst]


def _plot_path(folder: Path, name: str) -> Path:
    return folder / PICTURES / f"{name}.png"


def _worst_path(folder: Path, rank: int, kind: str) -> Path:
    return folder / PICTURES / f"worst_{rank:03}_{kind}.jpg"


def _body(
    title: str,
    evaluation: Evaluation,
    comparison: Comparison,
    images: Mapping[str, str],
    match: Sequence[str],
    figures: Sequence[str],
) -> str:
    """Make the body of the page.

    images: HTML of each plot, by name; match: that of the match score; figures: that of each picture with mistakes.
    """
    sections = [
        f"<h1>{escape(title)}</h1>",
        _overview(evaluation, comparison),
        *match,
        "<h2>Precision and recall</h2>",
        "<p>The mean over the classes. The AP at one IoU is the mean height of its curve; AP in the table is the mean "
        "at ten IoU thresholds from 0.5 to 0.95.</p>",
        f'<div class="plots">{images["precision_recall_mask"]}{images["precision_recall_box"]}</div>',
        "<h2>Confused classes</h2>",
        f'<div class="wide matrix">{images["confusion"]}</div>',
        "<h2>Classes, the worst first</h2>",
        _class_table(evaluation),
        "<h2>Pictures, the worst first</h2>",
        "<p>F1 is the harmonic mean of precision and recall at IoU 0.5, a confused class counting as a miss and a "
        "false instance.</p>",
        images["quality"],
        *(figures or ["<p>There is no mistake in any picture.</p>"]),
    ]
    return "\n".join(sections)


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _overview(evaluation: Evaluation, comparison: Comparison) -> str:
    objects = sum(row.objects for row in evaluation.mask.classes)
    hits, confusions, misses, false_positives = (
        sum(getattr(picture, kind) for picture in comparison.pictures)
        for kind in ("hits", "confusions", "misses", "false_positives")
    )
    lines = [f"{evaluation.pictures} pictures, {objects} objects."]
    if evaluation.left_out:
        lines.append(f"{evaluation.left_out} of the file's annotations cannot be used and were left out.")
    lines.append(
        f"At score {comparison.score:g} and IoU 0.5: {hits} found, {confusions} with a wrong class, "
        f"{misses} missed, {false_positives} false."
    )
    kinds = {"mask": evaluation.mask, "box": evaluation.box}
    rows = [[kind, *map(percent, result.summary.values())] for kind, result in kinds.items()]
    if evaluation.mask.max_dets != COCO_MAX_DETS:
        lines.append(describe_max_dets(evaluation.mask.max_dets))
    return f"<p>{' '.join(lines)}</p>\n{_table(['percent', *evaluation.mask.summary], rows)}"


def _match_section(folder: Path, curve: Sequence[MatchScore], score: float) -> list[str]:
    """Draw the metrics over the thresholds; return the HTML that shows them, and those at one threshold."""
    point = match_at(curve, score)
    header = ["score", "S", *(f"S at {iou:g}" for iou in IOU_THRESHOLDS), "F1", "precision", "recall", "count error"]
    values = (point.s, *point.by_iou, point.f1, point.precision, point.recall)
    row = [f"{point.threshold:.2f}", *(f"{value:.3f}" for value in values), f"{point.count_error:.1f}"]
    return [
        "<h2>Match score</h2>",
        "<p>Of the instances with at least this score: S is the mean over pictures and IoUs of TP / (TP + FP + FN). "
        "F1, precision and recall are at IoU 0.5, over all pictures; the count error is the mean difference of the "
        "numbers of instances and objects in a picture.</p>",
        _table(header, [row]),
        _write_plot(folder, MATCH_PLOT, match_plot(curve)),
    ]


def _class_table(evaluation: Evaluation) -> str:
    """Make the table of classes, sorted by mask AP, with the classes without objects last."""
    pairs = sorted(
        zip(evaluation.mask.classes, evaluation.box.classes),
        key=lambda pair: (pair[0].ap is None, pair[0].ap or 0, pair[0].name),
    )
    rows = [
        [
            escape(mask.name),
            str(mask.objects),
            percent(mask.ap),
            f'<div style="width: {100 * (mask.ap or 0):.1f}%"></div>',
            percent(mask.ap50),
            percent(box.ap),
            percent(box.ap50),
        ]
        for mask, box in pairs
    ]
    header = ["class", "objects", "mask AP", "", "mask AP50", "box AP", "box AP50"]
    return _table(header, rows, styles={0: "name", 3: "bar"})


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Mapping[int, str] | None = None) -> str:
    """Make a table from cells of HTML; styles: CSS class of a column's cells, by its index."""
    styles = styles or {}
    opening = [f'<td class="{styles[i]}">' if i in styles else "<td>" for i in range(len(header))]
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"{tag}{cell}</td>" for tag, cell in zip(opening, row)) + "</tr>" for row in rows]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _write_plot(folder: Path, name: str, plot: np.ndarray) -> str:
    write_drawing(_plot_path(folder, name), plot)
    height, width = (side // SCALE for side in plot.shape[:2])
    return _img_tag(f"{name}.png", (height, width), name.replace("_", " "))


def _figure(folder: Path, rank: int, picture: PictureQuality, file_name: str, load: LoadPicture, score: float) -> str:
    """Draw a picture with its predicted and its annotated instances; return the HTML that shows both."""
    image, predicted, truth = load(picture.image_id, score)
    columns = []
    for kind, what, instances in zip(_KINDS, ("Found", "Annotated"), (predicted, truth)):
        path = _worst_path(folder, rank, kind)
        drawing = shrink(instances.draw(image), LONGEST_SIDE)
        write_drawing(path, drawing)
        tag = _img_tag(path.name, drawing.shape[:2], f"{what}: {file_name}")
        columns.append(f"<div><span>{what}</span>{tag}</div>")
    caption = (
        f"{rank}. <b>{escape(file_name)}</b>: F1 {picture.f1:.2f}, {picture.hits} found, {picture.misses} missed, "
        f"{picture.false_positives} false, {picture.confusions} with a wrong class"
    )
    return f'<figure><figcaption>{caption}</figcaption><div class="pair">{"".join(columns)}</div></figure>'


def _img_tag(name: str, size: tuple[int, int], description: str) -> str:
    return (
        f'<img src="{PICTURES}/{name}" width="{size[1]}" height="{size[0]}" alt="{escape(description)}" loading="lazy">'
    )
