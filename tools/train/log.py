"""What a training tells: a progress bar, the same as JSON lines and for VisualDL, and curves at its end."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config.errors import InputError
from data.files import atomic_write, write_error
from data.images import write_image
from tools.common.memory import peak_memory
from tools.common.plots import line_plot

LOG = "log.jsonl"
CURVES = "curves.png"
BOARD = "visualdl"
NO_LOSSES = ("step", "lr", "pictures_per_second", "data_wait", "learning", "memory_mib")  # what else stands in a line


@dataclass
class _Span:
    """What happened between two moments."""

    steps: int = 0
    pictures: int = 0
    waited: float = 0.0  # seconds in which the network had no batch
    learnt: float = 0.0  # seconds in the network, forward and backward
    since: float = field(default_factory=time.perf_counter)

    def add(self, pictures: int, waited: float, learnt: float) -> None:
        self.steps += 1
        self.pictures += pictures
        self.waited += waited
        self.learnt += learnt

    def speed(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.since
        shares = {"data_wait": self.waited / seconds, "learning": self.learnt / seconds}
        return {"pictures_per_second": self.pictures / seconds, **shares}


class RunLog:
    """The log of a run in a folder; on a resumed run it goes on behind the step that the run is resumed at.

    folder: None writes no file. total: steps of the whole run; first: those that are done already. every: steps between
    two lines. show: tell the user. visualdl: write the numbers for that program, too.
    """

    def __init__(
        self, folder: Path | None, *, total: int, first: int, every: int, show: bool, visualdl: bool = False
    ) -> None:
        self.folder = folder
        self.every = every
        self.board = _board(folder) if folder and visualdl else None
        if folder:
            kept = [line for line in read_log(folder) if line["step"] <= first]
            with atomic_write(folder / LOG) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.show = show
        self.bar = tqdm(total=total, initial=first, unit="step", disable=None if show else True, smoothing=0.05)
        self._losses: dict[str, float] = defaultdict(float)
        self._line = _Span()
        self._run: _Span | None = None

    def add(
        self, step: int, losses: Mapping[str, float], *, rate: float, pictures: int, waited: float, learnt: float
    ) -> None:
        """One step is done: its losses, learning rate, number of pictures; seconds it waited for them and learnt."""
        for name, value in losses.items():
            self._losses[name] += value
        self._line.add(pictures, waited, learnt)
        if self._run is None:  # the first step has to make what all others use, so the run's speed is without it
            self._run = _Span()
        else:
            self._run.add(pictures, waited, learnt)
        self.bar.update()
        if step % self.every == 0:
            self._write_line(step, rate)

    def _write_line(self, step: int, rate: float) -> None:
        losses = {name: total / self._line.steps for name, total in self._losses.items()}
        speed = {**self._line.speed(), "memory_mib": peak_memory()}
        self.write({"step": step, **losses, "lr": rate, **speed})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self._show(step, f"{shown}, lr {rate:.2g}, {_in_words(speed)}")
        self._losses.clear()
        self._line = _Span()

    def _show(self, step: int, text: str) -> None:
        """On the bar, or where there is no terminal for it in a line."""
        if self.bar.disable and self.show:
            print(f"step {step} of {self.bar.total}: {text}", flush=True)
        else:
            self.bar.set_postfix_str(text)

    def add_evaluation(self, step: int, mask_ap: float) -> None:
        self.write({"step": step, "mask_ap": mask_ap})
        if self.show:
            with tqdm.external_write_mode():  # the bar goes on below
                print(f"step {step} of {self.bar.total}: mask AP {mask_ap:.3f}", flush=True)

    def write(self, line: dict) -> None:
        if self.folder:
            path = self.folder / LOG
            try:
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
            except OSError as error:
                raise write_error(path, error) from error
        if self.board:
            for name, value in line.items():
                if name != "step":
                    self.board.add_scalar(name, value, line["step"])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of an evaluation or of a checkpoint does not count as that of training."""
        start = time.perf_counter()
        yield
        for span in filter(None, (self._line, self._run)):
            span.since += time.perf_counter() - start

    def close(self) -> str:
        """End the bar, draw the curves; returns how fast it was, in words."""
        self.bar.close()
        if self.board:
            self.board.close()
        if self.folder:
            draw_curves(self.folder)
        if self._run is None or not self._run.steps:
            return f"{peak_memory():.0f} MiB"
        steps = self._run.steps
        speed = {**self._run.speed(), "memory_mib": peak_memory()}
        return f"{self._run.pictures / steps / speed['pictures_per_second']:.3f} s a step, {_in_words(speed)}"


def _in_words(speed: Mapping[str, float]) -> str:
    return (
        f"{speed['pictures_per_second']:.1f} pictures/s, data wait {speed['data_wait']:.0%}, "
        f"forward and backward {speed['learning']:.0%}, {speed['memory_mib']:.0f} MiB"
    )


def read_log(folder: Path) -> list[dict]:
    """The lines of a run's log; a last one that a crash cut off is left out."""
    path = folder / LOG
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def draw_curves(folder: Path) -> None:
    """The losses and, where there were evaluations, the mask AP of a run as one PNG."""
    lines = read_log(folder)
    steps = [line for line in lines if "loss" in line]
    plots = []
    if steps:
        names = [name for name in steps[0] if name not in NO_LOSSES]
        curves = {name: ([line["step"] for line in steps], [line[name] for line in steps]) for name in names}
        plots.append(line_plot(curves, title="Losses", x_label="step"))
    evaluations = [line for line in lines if "mask_ap" in line]
    if evaluations:
        curve = [line["step"] for line in evaluations], [line["mask_ap"] for line in evaluations]
        plots.append(line_plot({"validation": curve}, title="Mask AP", x_label="step"))
    if plots:
        write_image(folder / CURVES, np.concatenate(plots, axis=1))


def _board(folder: Path):
    try:
        from visualdl import LogWriter
    except ImportError:
        raise InputError("--visualdl: the package is not installed; pip install visualdl") from None
    return LogWriter(str(folder / BOARD))
