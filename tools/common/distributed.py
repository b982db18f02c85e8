"""One process or many: who trains beside us, and what must be equal among us."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field

import paddle
import paddle.distributed as dist

from config.errors import InputError


class LostConnectionError(InputError):
    """Another process of this run has ended, and has said why."""

    status = 3


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`; number 0 writes the files and talks.

    All methods raise LostConnectionError where another process has ended.
    """

    rank: int = 0
    size: int = 1
    _meetings: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, which all get the result."""
        if self.size == 1:
            return list(values)
        total = paddle.to_tensor(list(values), dtype="float64")
        with _connection():
            dist.all_reduce(total)
        return total.tolist()

    def wait_for_all(self) -> None:
        """Wait until all processes are here: after work that takes some of them longer than others.

        All else here is for processes that arrive together: Paddle's exchange over CPUs fails where one is half a
        minute late.
        """
        if self.size == 1:
            return
        store = paddle.base.core.create_or_get_global_tcp_store()
        meeting = f"meeting {next(self._meetings)} of "
        with _connection():
            store.set(f"{meeting}{self.rank}", b"here")
            for rank in range(self.size):
                store.wait(f"{meeting}{rank}")

    def gather(self, value: object) -> list:
        """The value of each process, in order of rank; they may arrive at different times."""
        if self.size == 1:
            return [value]
        self.wait_for_all()
        values = []
        with _connection():
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
        # In float32, because in mixed precision they have several types, and sums of float16 overflow.
        flat = paddle.concat([tensor.flatten().astype("float32") for tensor in tensors])
        with _connection():
            dist.all_reduce(flat)
        parts = flat.scale_(1 / self.size).split([tensor.size for tensor in tensors])
        return [part.reshape(tensor.shape).astype(tensor.dtype) for part, tensor in zip(parts, tensors)]


SINGLE_PROCESS = World()


@contextmanager
def _connection() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LostConnectionError(
            f"the connection to the other processes of this run is lost ({reason}); what they said tells why"
        ) from error


def join_world() -> World:
    """Meet the other processes of `paddle.distributed.launch` (or of train.py itself), if there are any."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return SINGLE_PROCESS
    with redirect_stderr(io.StringIO()):  # it prints flags that Paddle itself has set
        dist.init_parallel_env()
    return World(rank=dist.get_rank(), size=dist.get_world_size())
