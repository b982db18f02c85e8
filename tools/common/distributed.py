"""Run a program in one process or in several, and exchange values between them."""

from __future__ import annotations

import io
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field

import paddle
import paddle.distributed as dist

from config.errors import InputError
from tools.common.signals import stop_signals_handled


class LostConnectionError(InputError):
    """Another process of this run has ended. Its own message gives the reason."""

    status = 3


@dataclass(frozen=True)
class World:
    """The processes of a run: this one is number `rank` of `size`, and number 0 writes files and prints messages.

    All processes must call the same methods in the same order. All methods raise LostConnectionError if another process
    has ended.
    """

    rank: int = 0
    size: int = 1
    _barriers: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sum each value over the processes; all of them get the result."""
        if self.size == 1:
            return list(values)
        total = paddle.to_tensor(list(values), dtype="float64")
        with _lost_connection_error():
            dist.all_reduce(total)
        return total.tolist()

    def wait_for_all(self) -> None:
        """Wait until all processes have called this method. Call it after work that takes some of them longer.

        The other methods, except `gather`, need the processes to arrive together: Paddle's exchange between CPUs fails
        if one is half a minute late.
        """
        if self.size == 1:
            return
        store = paddle.base.core.create_or_get_global_tcp_store()
        barrier = f"barrier {next(self._barriers)} of "
        with _lost_connection_error():
            store.set(f"{barrier}{self.rank}", b"reached")
            for rank in range(self.size):
                store.wait(f"{barrier}{rank}")

    def gather(self, value: object) -> list:
        """Return the values of all processes, in order of rank; the processes may arrive at different times."""
        if self.size == 1:
            return [value]
        self.wait_for_all()
        values: list = []
        with _lost_connection_error():
            dist.all_gather_object(values, value)
        return values

    def average_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size > 1:
            for parameter, mean in zip(parameters, self._means([parameter.grad for parameter in parameters])):
                parameter.grad = mean

    def average_values(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Replace the values of tensors by their means over the processes."""
        if self.size > 1 and tensors:
            for tensor, mean in zip(tensors, self._means(tensors)):
                tensor.set_value(mean)

    @paddle.no_grad()
    def _means(self, tensors: Sequence[paddle.Tensor]) -> list[paddle.Tensor]:
        """Return the mean of each tensor over the processes, from one exchange of all values."""
        # In float32, because mixed precision has several dtypes, and sums of float16 overflow.
        flat = paddle.concat([tensor.flatten().astype("float32") for tensor in tensors])
        with _lost_connection_error():
            dist.all_reduce(flat)
        parts = flat.scale_(1 / self.size).split([tensor.size for tensor in tensors])
        return [part.reshape(tensor.shape).astype(tensor.dtype) for part, tensor in zip(parts, tensors)]


SINGLE_PROCESS = World()


@contextmanager
def _lost_connection_error() -> Iterator[None]:
    """Turn the errors that Paddle raises in the block into LostConnectionError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LostConnectionError(
            f"the connection to the other processes of this run is lost ({reason}); see their messages for the reason"
        ) from error


def join_world() -> World:
    """Connect to the other processes of `paddle.distributed.launch`, or of train.py itself, if there are any."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return SINGLE_PROCESS
    # It prints flags that Paddle has set itself. While it waits for the others no Python code runs, so that only the
    # system can end the process at a signal.
    with redirect_stderr(io.StringIO()), stop_signals_handled(signal.SIG_DFL):
        dist.init_parallel_env()
    return World(rank=dist.get_rank(), size=dist.get_world_size())
