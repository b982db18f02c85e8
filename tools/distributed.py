"""One process or many: who trains beside us, and what must be equal among us."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.distributed as dist


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`; number 0 writes the files and talks."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, which all get the result."""
        if self.size == 1:
            return list(values)
        total = paddle.to_tensor(list(values), dtype="float64")
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: object) -> list:
        """The value of each process, in order of rank."""
        if self.size == 1:
            return [value]
        values = []
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
        flat = paddle.concat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.size for tensor in tensors])
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors)]


ALONE = World()


def join_world() -> World:
    """Meet the other processes of `paddle.distributed.launch` (or of train.py itself), if there are any."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return ALONE
    dist.init_parallel_env()
    return World(rank=dist.get_rank(), size=dist.get_world_size())
