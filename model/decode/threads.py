"""The threads that share the decoding of one picture on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Callable, TypeVar

from model.startup import CPU_THREADS

Result = TypeVar("Result")


def parallel_map(function: Callable[..., Result], *items: Iterable) -> Iterator[Result]:
    """Call a function for each item like `map`, in as many threads as networks use; results keep their order.

    All items are taken at once. The function must not call `parallel_map` itself: it could wait for its own thread.
    """
    return _pool().map(function, *items)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CPU_THREADS, thread_name_prefix="decoding")
