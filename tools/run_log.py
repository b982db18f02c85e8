"""What a training tells while it runs: a progress bar, and the same as JSON lines in the run's folder."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from data.files import write_whole
from tools.memory import peak_memory

LOG = "log.jsonl"


class RunLog:
    """The log of a run in a folder; on a resumed run it goes on behind the step that the run is resumed at.

    folder: None writes no file. total: steps of the whole run; first: those that are done already.
    """

    def __init__(self, folder: Path | None, *, total: int, first: int, every: int, show: bool) -> None:
        self.path = folder / LOG if folder else None
        self.every = every
        self.bar = tqdm(total=total, initial=first, unit="step", disable=None if show else True, smoothing=0.05)
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = self._pictures = 0
        self._waited = 0.0
        self._since = time.perf_counter()
        if self.path:
            kept = [line for line in read_log(self.path) if line["step"] <= first]
            with write_whole(self.path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def add(self, step: int, losses: dict[str, float], *, rate: float, pictures: int, waited: float) -> None:
        """One step is done: its losses, learning rate, number of pictures and the seconds it waited for them."""
        for name, value in losses.items():
            self._sums[name] += value
        self._steps += 1
        self._pictures += pictures
        self._waited += waited
        self.bar.update()
        if step % self.every == 0:
            self.flush(step, rate)

    def flush(self, step: int, rate: float) -> None:
        """Write the means since the last line."""
        if not self._steps:
            return
        seconds = time.perf_counter() - self._since
        losses = {name: total / self._steps for name, total in self._sums.items()}
        speed = {
            "pictures_per_second": self._pictures / seconds,
            "data_wait": self._waited / seconds,
            "memory_mib": peak_memory(),
        }
        self.write({"step": step, **losses, "lr": rate, **speed})
        shown = {name: f"{value:.3f}" for name, value in losses.items()}
        self.bar.set_postfix_str(
            ", ".join(f"{name} {value}" for name, value in shown.items())
            + f", lr {rate:.2g}, {speed['pictures_per_second']:.1f} pictures/s, data wait {speed['data_wait']:.0%}, "
            f"{speed['memory_mib']:.0f} MiB"
        )
        self._sums.clear()
        self._steps = self._pictures = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def write(self, line: dict) -> None:
        if self.path:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of an evaluation or of a checkpoint does not count as that of training."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def close(self) -> None:
        self.bar.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a log; a last one that a crash cut off is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
