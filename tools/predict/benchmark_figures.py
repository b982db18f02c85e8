"""The figures of `tools/benchmark.py` as a table, as CSV, as bars and as ratios."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from tools.common.config_table import align_columns
from tools.common.memory import format_memory
from tools.common.plots import stacked_bars

# Columns of the CSV before and after those of the stages.
_DESCRIPTION = ("machine", "paddle", "config", "device", "engine", "precision", "threads", "streams")
_RESULTS = (
    "candidates",
    "share_beside_network",
    "pictures_per_second",
    "gflop",
    "peak_gflop_per_second",
    "share_of_peak",
    "peak_memory_mib",
)
_STATISTICS = ("median", "p95")


def format_table(figures: Sequence[dict]) -> str:
    stages = list(figures[0]["milliseconds"])
    rows = [["", *stages, "", "all but the", "pictures", "", "of the", "peak"]]
    rows.append(["milliseconds", *["median p95"] * len(stages), "candidates", "network", "a second", "GFLOP"])
    rows[-1] += ["peak", "memory"]
    for line in figures:
        times = [f"{row['median']:.1f} {row['p95']:.1f}" for row in line["milliseconds"].values()]
        share = f"{line['share_of_peak']:.0%}" if "share_of_peak" in line else ""
        rows.append(
            [
                _name(line),
                *times,
                f"{line['candidates']:.0f}",
                f"{line['share_beside_network']:.1%}",
                f"{line['pictures_per_second']:.2f}",
                f"{line['gflop']:.1f}",
                share,
                format_memory(line["peak_memory_mib"]),
            ]
        )
    return align_columns(rows)


def format_csv(figures: Sequence[dict]) -> str:
    """Return a row for each line of the table; times in milliseconds per picture. What was not measured is empty."""
    stages = list(figures[0]["milliseconds"])
    times = {f"{stage}_{kind}_ms": (stage, kind) for stage in stages for kind in _STATISTICS}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_DESCRIPTION, *times, *_RESULTS], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for line in figures:
        measured = {column: line["milliseconds"][stage][kind] for column, (stage, kind) in times.items()}
        writer.writerow({**line, **measured})
    return text.getvalue()


def plot(figures: Sequence[dict]) -> np.ndarray:
    """Draw the median time of the stages as bars, one for each line: uint8 [H, W, 3]."""
    stages = {
        stage: [line["milliseconds"][stage]["median"] for line in figures] for stage in figures[0]["milliseconds"]
    }
    title, label = figures[0]["machine"], "milliseconds per picture, medians of the stages"
    names = [_name(line) for line in figures]
    return stacked_bars(names, stages, title=title, x_label=label, width=860, name_width=360)


def ratios(ours: dict, other: dict) -> str:
    """Return how many times as fast one line of a config is as another one."""
    parts = [
        ("network", other["milliseconds"]["network"]["median"] / ours["milliseconds"]["network"]["median"]),
        ("all in all", ours["pictures_per_second"] / other["pictures_per_second"]),
    ]
    words = ", ".join(f"{name} {ratio:.2f} times as fast" for name, ratio in parts)
    return f"{_name(ours)} against {other['engine']} {other['precision']}: {words}"


def _name(line: dict) -> str:
    return f"{line['config']} {line['engine']} {line['precision']}"
