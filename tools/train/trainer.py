"""The training loop, `Trainer.run`: batches in, losses down, checkpoints and a log out."""

from __future__ import annotations

import math
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import paddle
from paddle import nn

from config.base import Config, with_field
from config.errors import InputError
from config.overrides import SCORE, differences, training_settings
from data.class_lists import ClassList, describe_changes
from data.training_set import Batch, TrainingSet
from model.layers import running_statistics
from tools.common.checkpoint import Checkpoint, load_weights, save_checkpoint
from tools.common.distributed import World
from tools.common.kinds import kind_of
from tools.common.output import OutputError
from tools.common.signals import stop_signals_handled
from tools.common.skipped import print_skipped
from tools.common.threads import ordered_map, worker_threads
from tools.evaluate.training_ap import MaskAP
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
from tools.train.state import BEST_CHECKPOINT, TrainingState, remove_temporaries, save_state


class Trainer:
    """Train a network on a training set, in this process and in the others of `world`, which hold the same weights.

    folder: receives the checkpoints and the log; None writes nothing. evaluate: returns the mask AP of a network on the
    validation pictures, and the checkpoint with the highest AP is kept; None: no evaluation. validation: the
    fingerprint of these pictures.
    """

    def __init__(
        self,
        network: nn.Layer,
        training_set: TrainingSet,
        *,
        classes: ClassList,
        world: World,
        folder: Path | None,
        evaluate: Callable[[nn.Layer], MaskAP] | None,
        validation: str = "",
    ) -> None:
        self.network = network
        self.training_set = training_set
        self.config: Config = training_set.config
        self.settings = self.config.train_cfg
        self.kind = kind_of(self.config)
        self.classes = classes
        self.world = world
        self.folder = folder
        self.evaluate = evaluate
        self.validation = validation
        self.optimizer = build_optimizer(network, self.settings)
        self.precision = Precision(network, self.optimizer, self.settings)
        self.average = WeightAverage(network, self.settings.ema_decay) if self.settings.ema_decay else None
        self.step = 0  # steps done so far
        self.best_ap = -1.0  # or the best match score, whatever selects
        self.evaluations_since_best = 0  # evaluations since the best one
        self.last_ap: float | None = None  # of the last evaluation of this run
        self.evaluation_due = False
        self.total_batch = training_set.total_batch(world.size)
        self.steps_per_epoch = training_set.steps_per_epoch(world.size)
        if not self.steps_per_epoch:
            raise InputError(
                f"{self.config.train_path}: has {len(training_set)} pictures to train on, but one step takes "
                f"{self.total_batch}, train_cfg.batch_size x train_cfg.accumulate x processes; lower one of them"
            )
        self.total_steps = self.settings.epochs * self.steps_per_epoch
        self.speed = ""  # of the last run, in words
        self.unreadable: dict[str, str] = {}  # of all processes, as in TrainingSet
        self._parameters = list(trainable_parameters(network).values())
        self._statistics = running_statistics(network)  # each process updates them by its own pictures
        self._received_signal = 0  # that this process has received
        self._agreed_signal = 0  # that any process has received, known to all of them after the same step
        self._output_error: OutputError | None = None  # that ended the run
        self._evaluating = False
        self._unnamed = 0.0  # pictures that some process could not read and that are not in `unreadable` yet

    def run(self, *, last_step: int | None = None, visualdl: bool = False) -> int:
        """Train to `last_step` (default: the end of the last epoch); return 0, or the signal that ended the run.

        Raises InputError if a loss or a gradient is not finite; the weights are then those of the step before. Raises
        OutputError if standard output or standard error cannot be written; the state is saved before.
        """
        last_step = min(last_step or self.total_steps, self.total_steps)
        workers, accumulate = self.settings.workers, self.settings.accumulate
        self.network.train()
        with (
            stop_signals_handled(self._handle_signal, restart_calls=True),
            worker_threads(workers) as pool,
            self._open_log(last_step, visualdl) as log,
            suppress(_EvaluationStopped),  # the state was saved before the evaluation began
        ):
            batches = ordered_map(pool, self._prepare_batch, self._batch_jobs(last_step), ahead=workers + 1)
            if self.evaluation_due:  # the resumed run was stopped before or during its evaluation
                with log.pause():
                    self._print_summary(log, self._evaluate(log))
            while self.step < last_step and not self._stop_signal() and not self.has_stopped_improving:
                # The network's randomness depends on the step only, so that a resumed run repeats the original one.
                paddle.seed((self.settings.seed * 1_000_003 + self.step) * self.world.size + self.world.rank)
                rate = self._learning_rate()
                losses: dict[str, float] = defaultdict(float)
                names: list[str] = []
                for _ in range(accumulate):
                    with log.measure("data_wait"):
                        batch = next(batches)
                    with log.measure("learning"):
                        for name, value in self._forward_backward(batch).items():
                            losses[name] += value / accumulate
                    names += batch.names
                self._update_weights(rate, names)
                self.step += 1
                with self._stop_without_output():
                    log.add(self.step, losses, rate=rate, pictures=self.total_batch)
                if self._unnamed:
                    self._name_unreadable()
                if self.folder:
                    self._save_if_due(last_step, log)
            if self.folder and self._stop_signal():
                self.save()
        if self._output_error:
            raise self._output_error
        return self._stop_signal()

    def _batch_jobs(self, last_step: int) -> Iterator[tuple[int, list[int]]]:
        """Yield the epoch of each batch up to `last_step`, and the places of its pictures in that epoch."""
        for step in range(self.step, last_step):
            for part in range(self.settings.accumulate):
                yield self.training_set.places(step, part, rank=self.world.rank, world_size=self.world.size)

    def _prepare_batch(self, job: tuple[int, list[int]]) -> Batch:
        return self.training_set.batch(*job)

    def _name_unreadable(self) -> None:
        """Name the pictures that could not be read since the last call; all processes call it."""
        self._unnamed = 0.0
        own = self.training_set.unreadable.copy()  # the threads that prepare batches add to it
        for found in self.world.gather({path: why for path, why in own.items() if path not in self.unreadable}):
            for path, why in found.items():
                if self.world.is_first and path not in self.unreadable:
                    with self._stop_without_output():
                        print_skipped(f"{why}; the next picture of the annotation file takes its place")
                self.unreadable[path] = why

    def _learning_rate(self) -> float:
        return learning_rate(
            self.step, config=self.settings, steps_per_epoch=self.steps_per_epoch, total_batch=self.total_batch
        )

    def _forward_backward(self, batch: Batch) -> dict[str, float]:
        """Add a batch's gradients to those of the step; return the losses by name, the same in all processes.

        Each loss is divided by its count over all processes, so that together they learn what a single process with all
        of their pictures would learn.
        """
        with self.precision.forward():
            targets = [self.kind.target_tensors(picture) for picture in batch.targets]
            losses = self.network.losses(paddle.to_tensor(batch.images), targets)
        totals = [float(loss.total) for loss in losses.values()]
        counts = [loss.terms for loss in losses.values()]
        unnamed = len(self.training_set.unreadable.keys() - self.unreadable.keys())
        *sums, self._unnamed, stop = self.world.sum([*totals, *counts, unnamed, self._received_signal])
        # The other processes do not know yet of a signal that arrives after this sum.
        self._agreed_signal = (self._received_signal or signal.SIGTERM) if stop else 0
        divisors = [loss.divisor(count) for loss, count in zip(losses.values(), sums[len(losses) :])]
        values = {name: total / divisor for name, total, divisor in zip(losses, sums, divisors)}
        values["loss"] = sum(values.values())
        if not math.isfinite(values["loss"]):
            raise self._not_finite_error("loss", () if all(map(math.isfinite, totals)) else batch.names)
        # Gradients are summed over the parts of a step here and averaged over the processes in `_update_weights`.
        scale = self.world.size / self.settings.accumulate
        self.precision.backward(sum(loss.total * (scale / d) for loss, d in zip(losses.values(), divisors)))
        return values

    def _update_weights(self, rate: float, names: Sequence[str]) -> None:
        """Make one optimizer step with the mean gradients and running statistics of all processes.

        names: the pictures of this process. Raises InputError if a gradient is not finite.
        """
        self.world.average_gradients(self._parameters)
        # ReLU and max pooling turn NaN into a number, so a finite loss does not prove that the gradients are finite.
        if self.precision.scaler is None and not is_finite([parameter.grad for parameter in self._parameters]):
            raise self._not_finite_error("gradient", names)
        self.optimizer.set_lr(rate)
        self.precision.step(self.optimizer)
        # After each step: averaging only before a save would make the rounding depend on when the run is saved.
        self.world.average_values(self._statistics)
        if self.average:
            self.average.update(self.step)

    def _not_finite_error(self, quantity: str, names: Sequence[str]) -> InputError:
        """Return the error to raise; names: this process's pictures that may be the reason. All processes call it."""
        pictures = ", ".join(name for part in self.world.gather(list(names)) for name in part)
        return InputError(
            f"the {quantity} of step {self.step + 1} is not finite (pictures {pictures}); saved checkpoints are not "
            "affected. Look at these pictures with tools/browse_dataset.py, or lower train_cfg.lr"
        )

    @contextmanager
    def _open_log(self, last_step: int, visualdl: bool) -> Iterator[RunLog]:
        """Open the log of the run during the block, then close it and set `speed`."""
        folder = self.folder if self.world.is_first else None
        log = RunLog(
            folder,
            total=last_step,
            first=self.step,
            evaluation_due=self.evaluation_due,
            every=self.settings.log_every,
            show=self.world.is_first,
            visualdl=visualdl,
        )
        if folder:
            remove_temporaries(folder)
        try:
            yield log
        except BaseException:
            with suppress(InputError):  # the disk may be full, which may be what ended the run
                log.close()
            raise
        self.speed = log.close()

    def _handle_signal(self, number: int, _frame: object) -> None:
        """Let a signal end the run after the current step, or at once during an evaluation."""
        self._received_signal = number
        if self._evaluating:
            raise _EvaluationStopped

    @contextmanager
    def _stop_without_output(self) -> Iterator[None]:
        """End the run after the current step, as a signal does, if what the block prints cannot be written."""
        try:
            yield
        except OutputError as error:
            if not self._received_signal:  # otherwise the terminal is gone, whose end is one
                self._output_error, self._received_signal = error, signal.SIGTERM

    def _stop_signal(self) -> int:
        """Return the signal to stop at, or 0. Between steps all processes must return the same."""
        if self.world.size == 1 or self._evaluating:
            return self._agreed_signal or self._received_signal
        return self._agreed_signal

    def _save_if_due(self, last_step: int, log: RunLog) -> None:
        """Save the run, and evaluate the network, after the steps for which the config asks for it."""
        is_last = self.step == last_step
        epoch, step_in_epoch = divmod(self.step, self.steps_per_epoch)
        every = self.settings.eval_every
        ends_nth_epoch = every and step_in_epoch == 0 and epoch % every == 0
        self.evaluation_due = bool(self.evaluate and every and (is_last or ends_nth_epoch))
        with log.pause():
            if is_last or self.evaluation_due or self.step % self.settings.save_every == 0:
                self.save()
            scores = self._evaluate(log) if self.evaluation_due else None
            if scores is not None or not step_in_epoch:
                self._print_summary(log, scores)

    def _print_summary(self, log: RunLog, scores: MaskAP | None) -> None:
        """Print a line about the epoch that ends here, or about the steps so far if none does."""
        epoch, step_in_epoch = divmod(self.step, self.steps_per_epoch)
        is_end = not step_in_epoch
        place = f"epoch {epoch} of {self.settings.epochs}" if is_end else f"step {self.step} of {self.total_steps}"
        with self._stop_without_output():
            log.print_summary(place, scores)

    def _evaluate(self, log: RunLog) -> MaskAP:
        """Evaluate the network, with the averaged weights if there are any; save it if it is the best, and the run."""
        self._evaluating = True
        if self._stop_signal():
            raise _EvaluationStopped
        with self.average.swap_in() if self.average else nullcontext():
            self.network.eval()
            assert self.evaluate is not None  # otherwise no evaluation is due
            scores = self.evaluate(self.network)
            self.network.train()
        self._evaluating = self.evaluation_due = False
        log.add_evaluation(self.step, scores)
        self.last_ap = scores.ap
        if scores.match:
            self.config = with_field(self.config, SCORE, scores.match.threshold)
        self.evaluations_since_best += 1
        if scores.selecting > self.best_ap:
            self.best_ap, self.evaluations_since_best = scores.selecting, 0
            if self.folder and self.world.is_first:
                save_checkpoint(self.folder / BEST_CHECKPOINT, self._checkpoint())
        self.save()
        return scores

    @property
    def has_stopped_improving(self) -> bool:
        """Return whether the last `train_cfg.patience` evaluations gave no new best score, which ends the run."""
        return 0 < self.settings.patience <= self.evaluations_since_best

    def save(self) -> None:
        """Write the weights and the training state; all processes call it, and the first one writes."""
        if self.folder and self.world.is_first:
            save_state(self.folder, self._state(), self._checkpoint(), keep=self.settings.keep)
        self.world.wait_for_all()

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
            evaluations_since_best=self.evaluations_since_best,
            selected_by=self.config.eval_cfg.select_by,
            score=self.config.test_cfg.score,
            evaluation_due=self.evaluation_due,
            weights=_arrays(self.network),
            average=self.average.arrays() if self.average else {},
            optimizer=optimizer_arrays(self.optimizer, self.network),
            scaler=self.precision.state(),
            train_path=self.config.train_path,
            fingerprint=self.training_set.fingerprint,
            validation=self.validation,
            settings=training_settings(self.config),
        )

    def restore(self, state: TrainingState, *, path: Path) -> None:
        """Continue from a saved state. Raises InputError if it belongs to a run with other settings or classes."""
        if changes := describe_changes(state.class_names, self.classes.names):
            raise InputError(
                f"{path}: was trained on other classes than those of {self.config.train_path}: {changes}; resuming "
                f"needs the same in the same order; start another run with --finetune {path.with_suffix('.pdparams')}"
            )
        for name, saved, own in (
            (
                "the number of pictures in a step (train_cfg.batch_size x train_cfg.accumulate x processes)",
                state.total_batch,
                self.total_batch,
            ),
            ("train_cfg.seed", state.seed, self.settings.seed),
            ("train_cfg.optimizer", state.optimizer_name, self.settings.optimizer),
            ("the moving average (train_cfg.ema_decay > 0)", bool(state.average), self.average is not None),
        ):
            if saved != own:
                raise InputError(
                    f"{path}: {name} was {saved} in the saved run and is {own} now; resuming needs the same"
                )
        load_weights(self.network, state.weights, path=path, config_name=self.config.name)
        if self.average:
            self.average.load(state.average)
        load_optimizer_arrays(self.optimizer, self.network, state.optimizer)
        self.precision.load(state.scaler)
        self.step = state.step
        if state.selected_by == self.config.eval_cfg.select_by and self.has_validation_of(state):
            self.best_ap, self.evaluations_since_best = state.best_ap, state.evaluations_since_best
            if state.selected_by == "match":
                self.config = with_field(self.config, SCORE, state.score)
        self.evaluation_due = state.evaluation_due and self.evaluate is not None

    def has_validation_of(self, state: TrainingState) -> bool:
        """Return whether the run evaluates the pictures that a saved state was evaluated on, as far as both tell."""
        return not (state.validation and self.validation) or state.validation == self.validation


class _EvaluationStopped(BaseException):
    """Raised by a signal before or during an evaluation, which would take too long to wait for."""


def _arrays(network: nn.Layer) -> dict:
    return {name: value.numpy() for name, value in network.state_dict().items()}
