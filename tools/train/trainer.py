"""The training loop: batches in, losses down, checkpoints and a log out."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from config.base import Config
from config.errors import InputError
from config.overrides import differences
from data.box_targets import BoxTargets, centerness_of
from data.class_lists import ClassList
from data.grid_targets import GridTargets
from data.training_set import Batch, TrainingSet
from model.head.box_losses import BoxPictureTargets
from model.head.grid_losses import PictureTargets
from model.layers import STATISTICS
from tools.common.checkpoint import Checkpoint, load_weights, save_checkpoint
from tools.common.distributed import World
from tools.common.threads import ordered_map, worker_threads
from tools.train.log import RunLog
from tools.train.mixed_precision import Precision
from tools.train.optimizer import (
    WeightAverage,
    build_optimizer,
    is_finite,
    learning_rate,
    load_optimizer_arrays,
    optimizer_arrays,
    trainable_parameters,
)
from tools.train.state import BEST, TrainingState, remove_leftovers, save_state

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Trainer:
    """A network on its way through a training set; one of several with the same weights where `world` has more.

    folder: where checkpoints and the log go; None writes nothing. evaluate: mask AP of a network on the validation
    pictures, whose best is kept; None never asks.
    """

    def __init__(
        self,
        network: nn.Layer,
        training_set: TrainingSet,
        *,
        classes: ClassList,
        world: World,
        folder: Path | None,
        evaluate: Callable[[nn.Layer], float] | None,
    ) -> None:
        self.network = network
        self.training_set = training_set
        self.config: Config = training_set.config
        self.settings = self.config.train_cfg
        self.classes = classes
        self.world = world
        self.folder = folder
        self.evaluate = evaluate
        self.optimizer = build_optimizer(network, self.settings)
        self.precision = Precision(network, self.optimizer, self.settings)
        self.average = WeightAverage(network, self.settings.ema_decay) if self.settings.ema_decay else None
        self.step = 0
        self.best_ap = -1.0
        self.evaluation_due = False
        self.total_batch = training_set.total_batch(world.size)
        self.steps_per_epoch = training_set.steps_per_epoch(world.size)
        if not self.steps_per_epoch:
            raise InputError(
                f"{self.config.train_path}: has {len(training_set)} pictures to train on, and a step takes "
                f"{self.total_batch}; make train_cfg.batch_size smaller"
            )
        self.total_steps = self.settings.epochs * self.steps_per_epoch
        self._parameters = list(trainable_parameters(network).values())
        self.speed = ""  # how fast the last run was, in words
        self._received = 0  # signal that this process got
        self._agreed = 0  # signal of any process, known to all from the same step on
        self._evaluating = False

    def run(self, *, last_step: int | None = None, visualdl: bool = False) -> int:
        """Train to `last_step` (default: to the end of the last epoch); returns 0 or the signal that ended it.

        Raises InputError where a loss is not finite; the weights are then those of the step before.
        """
        last_step = min(last_step or self.total_steps, self.total_steps)
        folder = self.folder if self.world.is_first else None
        log = RunLog(
            folder,
            total=last_step,
            first=self.step,
            every=self.settings.log_every,
            show=self.world.is_first,
            visualdl=visualdl,
        )
        if folder:
            remove_leftovers(folder)
        self.network.train()
        workers = self.settings.workers
        with self._signals(), worker_threads(workers) as pool:
            batches = ordered_map(pool, self._prepare, self._jobs(last_step), ahead=workers + 1)
            try:
                if self.evaluation_due:
                    with log.paused():
                        self._evaluate(log)
                while self.step < last_step and not self._stopping():
                    self._take_step(batches, log)
                    if self.folder:
                        self._save_when_due(last_step, log)
                if self.folder and self._stopping():
                    self.save()
            except _EvaluationStopped:
                pass  # the state was saved before the evaluation began
            except BaseException:
                with suppress(InputError):  # about a disk that is full, which may be what ended the run
                    log.close()
                raise
            self.speed = log.close()
        return self._stopping()

    def _stopping(self) -> int:
        """The signal to end at, which all processes must see behind the same step."""
        return self._agreed or (self._received if self.world.size == 1 or self._evaluating else 0)

    def _jobs(self, last_step: int) -> Iterator[tuple[int, list[int]]]:
        for step in range(self.step, last_step):
            for part in range(self.settings.accumulate):
                yield self.training_set.places(step, part, rank=self.world.rank, world_size=self.world.size)

    def _prepare(self, job: tuple[int, list[int]]) -> Batch:
        return self.training_set.batch(*job)

    def _take_step(self, batches: Iterator[Batch], log: RunLog) -> None:
        rate = learning_rate(
            self.step, config=self.settings, steps_per_epoch=self.steps_per_epoch, total_batch=self.total_batch
        )
        # What is random in the network follows from the step, so that a resumed run goes on as it would have.
        paddle.seed((self.settings.seed * 1_000_003 + self.step) * self.world.size + self.world.rank)
        sums: dict[str, float] = {}
        names: list[str] = []
        waited = learnt = 0.0
        for _ in range(self.settings.accumulate):
            start = time.perf_counter()
            batch = next(batches)
            ready = time.perf_counter()
            waited += ready - start
            names += batch.names
            for name, value in self._learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value / self.settings.accumulate
            learnt += time.perf_counter() - ready
        self.world.average_gradients(self._parameters)
        # ReLU and max pooling turn what is not a number into one, so that the loss alone does not tell.
        if self.precision.scaler is None and not is_finite([parameter.grad for parameter in self._parameters]):
            raise self._not_finite("gradient", names)
        self.optimizer.set_lr(rate)
        self.precision.step(self.optimizer)
        if self.average:
            self.average.update(self.step)
        self.step += 1
        log.add(self.step, sums, rate=rate, pictures=self.total_batch, waited=waited, learnt=learnt)

    def _learn(self, batch: Batch) -> dict[str, float]:
        """Forward and backward; the gradients are added to those that are there. Returns the losses of all processes.

        A loss is divided by what is counted in all processes, so that they learn together what one process with all
        of their pictures would.
        """
        with self.precision.forward():
            losses = self.network.losses(paddle.to_tensor(batch.images), [to_tensors(t) for t in batch.targets])
        names = list(losses)
        totals = [float(losses[name].total) for name in names]
        count = len(names)
        shared = self.world.sum([*totals, *(losses[name].count for name in names), self._received])
        # What arrived behind the sum, the others do not know yet.
        self._agreed = (self._received or signal.SIGTERM) if shared[-1] else 0
        divisors = [losses[name].divisor(value) for name, value in zip(names, shared[count : 2 * count])]
        values = {name: total / divisor for name, total, divisor in zip(names, shared, divisors)}
        values["loss"] = sum(values.values())
        if not math.isfinite(values["loss"]):
            raise self._not_finite("loss", () if all(map(math.isfinite, totals)) else batch.names)
        scale = self.world.size / self.settings.accumulate
        self.precision.backward(sum(losses[name].total * (scale / divisor) for name, divisor in zip(names, divisors)))
        return values

    def _not_finite(self, what: str, names: Sequence[str]) -> InputError:
        """names: of this process's pictures that may be the reason; all processes call it."""
        pictures = ", ".join(name for part in self.world.gather(list(names)) for name in part)
        return InputError(
            f"the {what} of step {self.step + 1} is not finite (pictures {pictures}); the last checkpoint is as it "
            "was. Look at them with tools/browse_dataset.py, or lower train_cfg.lr"
        )

    def _save_when_due(self, last_step: int, log: RunLog) -> None:
        ends_epoch = self.step % self.steps_per_epoch == 0
        ends = self.step == last_step
        epoch = self.step // self.steps_per_epoch
        every = self.settings.eval_every
        self.evaluation_due = bool(self.evaluate and every and (ends or (ends_epoch and epoch % every == 0)))
        if ends or self.evaluation_due or self.step % self.settings.save_every == 0:
            with log.paused():
                self.save()
        if self.evaluation_due:
            with log.paused():
                self._evaluate(log)
                self.save()

    def _evaluate(self, log: RunLog) -> None:
        self._unify_statistics()
        self._evaluating = True
        if self._stopping():
            raise _EvaluationStopped
        with self.average.in_place() if self.average else nullcontext():
            self.network.eval()
            ap = self.evaluate(self.network)
            self.network.train()
        self._evaluating = self.evaluation_due = False
        log.add_evaluation(self.step, ap)
        if ap > self.best_ap:
            self.best_ap = ap
            if self.world.is_first:
                save_checkpoint(self.folder / BEST, self._checkpoint())

    def save(self) -> None:
        """Write the weights and the training state; all processes call it and the first one writes."""
        self._unify_statistics()
        if self.world.is_first:
            save_state(self.folder, self._state(), self._checkpoint(), keep=self.settings.keep)
        self.world.wait_for_all()

    def _unify_statistics(self) -> None:
        """Each process has seen other pictures, so the running statistics of its batch norms are others."""
        for tensors in (self.network.state_dict(), self.average.tensors() if self.average else {}):
            self.world.average_values([tensor for name, tensor in tensors.items() if name.endswith(STATISTICS)])

    def _checkpoint(self) -> Checkpoint:
        weights = self.average.arrays() if self.average else _arrays(self.network)
        source = {"program": "train.py", "step": str(self.step)}
        return Checkpoint(weights, self.classes, self.config.name, differences(self.config), source)

    def _state(self) -> TrainingState:
        return TrainingState(
            step=self.step,
            config_name=self.config.name,
            class_names=list(self.classes.names),
            total_batch=self.total_batch,
            dataset_size=len(self.training_set),
            seed=self.settings.seed,
            optimizer_name=self.settings.optimizer,
            best_ap=self.best_ap,
            evaluation_due=self.evaluation_due,
            weights=_arrays(self.network),
            average=self.average.arrays() if self.average else {},
            optimizer=optimizer_arrays(self.optimizer, self.network),
            scaler=self.precision.state(),
        )

    def restore(self, state: TrainingState, *, path: Path) -> None:
        """Go on where a state was saved. Raises InputError where it belongs to another run than this one."""
        for what, then, now in (
            ("config", state.config_name, self.config.name),
            ("classes", state.class_names, list(self.classes.names)),
            ("pictures a step", state.total_batch, self.total_batch),
            ("pictures to train on", state.dataset_size, len(self.training_set)),
            ("train_cfg.seed", state.seed, self.settings.seed),
            ("train_cfg.optimizer", state.optimizer_name, self.settings.optimizer),
            ("a moving average", bool(state.average), self.average is not None),
        ):
            if then != now:
                raise InputError(f"{path}: its run had {what} {then}, this one has {now}; make them equal to resume")
        load_weights(self.network, state.weights, path=path, config_name=self.config.name)
        if self.average:
            self.average.load(state.average)
        load_optimizer_arrays(self.optimizer, self.network, state.optimizer)
        self.precision.load(state.scaler)
        self.step = state.step
        self.best_ap = state.best_ap
        self.evaluation_due = state.evaluation_due

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run behind the step that is being computed."""

        def note(number: int, _frame: object) -> None:
            self._received = number
            if self._evaluating:
                raise _EvaluationStopped

        previous = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _EvaluationStopped(BaseException):
    """A signal came before or during an evaluation, which would take too long to wait for."""


def to_tensors(targets: GridTargets | BoxTargets) -> PictureTargets | BoxPictureTargets:
    if isinstance(targets, BoxTargets):
        places, centerness = np.flatnonzero(targets.labels >= 0), centerness_of(targets.distances)
        arrays = targets.labels, places, targets.distances, centerness
        sums = len(places), float(centerness.sum())
        instances = targets.boxes, targets.classes, targets.masks, targets.picture
        return BoxPictureTargets(*map(paddle.to_tensor, arrays), *sums, *instances)
    return PictureTargets(
        labels=paddle.to_tensor(targets.labels),
        masks={stride: paddle.to_tensor(masks) for stride, masks in targets.masks.items()},
        cells=paddle.to_tensor(targets.cells),
        rows=paddle.to_tensor(targets.rows),
        level_pairs=targets.level_pairs,
        positives=int((targets.labels >= 0).sum()),
    )


def _arrays(network: nn.Layer) -> dict:
    return {name: value.numpy() for name, value in network.state_dict().items()}
