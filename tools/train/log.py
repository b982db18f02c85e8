"""Log a training run: a progress bar, log.jsonl, VisualDL, and a drawing of the curves at the end."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import atomic_write, write_error
from data.images import write_image
from tools.common.memory import format_memory, peak_memory
from tools.common.plots import line_plot
from tools.evaluate.training_ap import MaskAP

LOG_FILE = "log.jsonl"
CURVES_FILE = "curves.png"
PREDICTIONS_FILE = "predictions.png"
_START = '{"step": '  # of all lines of the log
_BAR: dict[str, Any] = {"unit": "step", "smoothing": 0.05, "dynamic_ncols": True}
VISUALDL_FOLDER = "visualdl"
# The keys of a log line that are not losses.
NOT_LOSSES = ("step", "lr", "pictures_per_second", "data_wait", "learning", "memory_mib")


@dataclass
class _Span:
    """A part of the run, from `start` to now: its steps, its pictures, its losses and what its time was spent on."""

    steps: int = 0
    pictures: int = 0
    losses: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # summed over the steps
    seconds: dict[str, float] = field(default_factory=lambda: {"data_wait": 0.0, "learning": 0.0})
    start: float = field(default_factory=time.perf_counter)

    def add_step(self, pictures: int, losses: Mapping[str, float]) -> None:
        self.steps += 1
        self.pictures += pictures
        for name, value in losses.items():
            self.losses[name] += value

    def mean_losses(self) -> dict[str, float]:
        return {name: total / self.steps for name, total in self.losses.items()}

    def speed(self) -> dict[str, float]:
        """Return the pictures per second, and the shares of the time spent waiting for data and learning."""
        elapsed = time.perf_counter() - self.start
        shares = {name: seconds / elapsed for name, seconds in self.seconds.items()}
        return {"pictures_per_second": self.pictures / elapsed, **shares}


class RunLog:
    """The log of a run. A resumed run continues the file; lines of steps after the resumed one are removed.

    folder: None writes no file. total: the last step of the run; first: steps done before this run. evaluation_due: the
    evaluation after step `first` is still to be done, and a line that a killed run wrote of it is removed. every: steps
    per log line. show: print the progress. visualdl: also write the numbers for VisualDL.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        total: int,
        first: int,
        evaluation_due: bool,
        every: int,
        show: bool,
        visualdl: bool = False,
    ) -> None:
        self.folder = folder
        self.every = every
        self.visualdl = _open_visualdl(folder) if folder and visualdl else None
        if folder:
            kept = [line for line in read_log(folder) if line["step"] <= first]
            if evaluation_due:
                kept = [line for line in kept if line["step"] < first or "mask_ap" not in line]
            with atomic_write(folder / LOG_FILE) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.show = show
        self.bar = tqdm(total=total, initial=first, disable=None if show else True, **_BAR)
        self._line = _Span()  # since the last log line
        self._summary = _Span()  # since the last summary
        self._run: _Span | None = None  # since the end of the first step, which is slower because it fills caches

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Count the time of the block as "data_wait" (no batch is ready) or "learning" (forward and backward)."""
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        for span in self._spans():
            span.seconds[part] += elapsed

    def add(self, step: int, losses: Mapping[str, float], *, rate: float, pictures: int) -> None:
        """Record a finished step: its losses, learning rate and number of pictures."""
        for span in self._spans():
            span.add_step(pictures, losses)
        self._run = self._run or _Span()
        self.bar.update()
        if step % self.every == 0 or step == self.bar.total:
            self._write_line(step, rate)

    def _write_line(self, step: int, rate: float) -> None:
        losses = self._line.mean_losses()
        speed = {**self._line.speed(), **_memory()}
        self.write({"step": step, **losses, "lr": rate, **speed})
        if self.bar.disable and self.show:  # the output is not a terminal
            shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"step {step} of {self.bar.total}: {shown}, lr {rate:.2g}, {_format_speed(speed)}", flush=True)
        else:  # more text would leave no place for the bar
            self.bar.set_postfix_str(f"loss {losses['loss']:.3f}")
        self._line = _Span()

    def _spans(self) -> list[_Span]:
        return [span for span in (self._line, self._summary, self._run) if span is not None]

    def add_evaluation(self, step: int, scores: MaskAP) -> None:
        """Record the mask AP, and the match score if there is one, of an evaluation after this step."""
        match = {"match_s": scores.match.s, "score": scores.match.threshold} if scores.match else {}
        self.write({"step": step, "mask_ap": scores.ap, "mask_ap50": scores.ap50, **match})

    def print_summary(self, place: str, scores: MaskAP | None) -> None:
        """Print a line of at most 80 columns about the steps since the last one; place: such as "epoch 3 of 36"."""
        parts = []
        if self._summary.steps:
            speed = self._summary.speed()["pictures_per_second"]
            parts += [f"loss {self._summary.mean_losses()['loss']:.3f}", f"{_format_rate(speed)}"]
        if scores is not None:
            second = f"S {scores.match.s:.3f}" if scores.match else f"AP50 {scores.ap50:.3f}"
            parts += [f"mask AP {scores.ap:.3f}", second]
        self._summary = _Span()
        if self.show:
            with tqdm.external_write_mode():  # the bar moves below the printed line
                print(f"{place}: {', '.join(parts)}", flush=True)

    def write(self, line: dict) -> None:
        """Append a line to the log file and to VisualDL. Raises InputError if the file cannot be written."""
        if self.folder:
            path = self.folder / LOG_FILE
            try:
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
            except OSError as error:
                raise write_error(path, error) from error
        if self.visualdl:
            for name, value in line.items():
                if name != "step":
                    self.visualdl.add_scalar(name, value, line["step"])

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the time of the block (an evaluation, a checkpoint) out of the training speed."""
        spans, start = self._spans(), time.perf_counter()  # not those that begin in the block
        yield
        for span in spans:
            span.start += time.perf_counter() - start

    def close(self) -> str:
        """Close the bar and the files, and draw the curves. Return the speed and the peak memory of the run as text."""
        self.bar.close()
        if self.visualdl:
            self.visualdl.close()
        if self.folder:
            draw_curves(self.folder)
        if self._run is None or not self._run.steps:
            return format_memory(peak_memory())
        steps = self._run.steps
        speed = {**self._run.speed(), **_memory()}
        return f"{self._run.pictures / steps / speed['pictures_per_second']:.3f} s a step, {_format_speed(speed)}"


def _memory() -> dict[str, float]:
    """Return the entry of a log line for the peak memory; none if the system does not report it."""
    peak = peak_memory()
    return {} if peak is None else {"memory_mib": peak}


def _format_speed(speed: Mapping[str, float]) -> str:
    return (
        f"{_format_rate(speed['pictures_per_second'])}, data wait {speed['data_wait']:.0%}, "
        f"forward and backward {speed['learning']:.0%}, {format_memory(speed.get('memory_mib'))}"
    )


def _format_rate(rate: float) -> str:
    """Return pictures per second with three digits: a step of a large network takes minutes on a slow processor."""
    return f"{rate:.{max(0, 2 - math.floor(math.log10(rate)))}f} pictures/s"


def read_log(folder: Path) -> list[dict]:
    """Return the lines of a run's log, without a last line that a crash has cut off.

    Raises InputError if the file is the log of another program.
    """
    path = folder / LOG_FILE
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    lines = []
    for place, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            if place == len(texts) and text.startswith(_START[: len(text)]):
                break
            line = None
        if not (isinstance(line, dict) and type(line.get("step")) is int and line.keys() & {"loss", "mask_ap"}):
            raise InputError(f"{path}: line {place} is not of a training of this project; give another --output")
        lines.append(line)
    return lines


def check_own_files(folder: Path) -> None:
    """Raise InputError if a folder has files with the names of a run's log and drawings that no training wrote."""
    own = read_log(folder)
    for name in () if own else (CURVES_FILE, PREDICTIONS_FILE):
        if (folder / name).exists():
            raise InputError(
                f"{folder / name}: is not of a training of this project, whose log {LOG_FILE} would be beside it, and "
                "would be overwritten; give another --output"
            )


def draw_curves(folder: Path) -> None:
    """Draw the losses and, if there are evaluations, the mask AP of a run into one PNG."""
    lines = read_log(folder)
    steps = [line for line in lines if "loss" in line]
    plots = []
    if steps:
        names = [name for name in steps[0] if name not in NOT_LOSSES]
        curves = {name: ([line["step"] for line in steps], [line[name] for line in steps]) for name in names}
        plots.append(line_plot(curves, title="Losses", x_label="step"))
    evaluations = [line for line in lines if "mask_ap" in line]
    if evaluations:
        done = [line["step"] for line in evaluations]
        keys = {"AP": "mask_ap", "AP50": "mask_ap50"}  # logs of version 0.1.0 have no AP50
        if any("match_s" in line for line in evaluations):
            keys["match score S"] = "match_s"
        precisions = {name: (done, [line.get(key, math.nan) for line in evaluations]) for name, key in keys.items()}
        plots.append(line_plot(precisions, title="Mask AP of the validation pictures", x_label="step"))
    if plots:
        write_image(folder / CURVES_FILE, np.concatenate(plots, axis=1))


def check_visualdl() -> None:
    """Raise InputError if VisualDL is not installed."""
    if find_spec("visualdl") is None:
        raise InputError("--visualdl: the package visualdl is not installed; run pip install visualdl")


def _open_visualdl(folder: Path) -> Any:
    check_visualdl()
    from visualdl import LogWriter

    return LogWriter(str(folder / VISUALDL_FOLDER))
