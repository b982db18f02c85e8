"""Convolutions of training: Paddle's, or on a CPU oneDNN's, which take about half the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from paddle import Tensor
from paddle.autograd import PyLayer
from paddle.nn import functional as F

from model import onednn
from model.onednn import Convolution, OneDNNError, Pair

MOST_GEOMETRIES = 2048  # a training at many sizes has hundreds; each takes kilobytes

_by_onednn: ContextVar[bool] = ContextVar("by_onednn", default=False)


@contextmanager
def onednn_convolutions() -> Iterator[None]:
    """Let `conv2d` compute by oneDNN during the block where it can. Only for float32 without `auto_cast`."""
    token = _by_onednn.set(True)
    try:
        yield
    finally:
        _by_onednn.reset(token)


def conv2d(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return `F.conv2d` without bias of x, [N, C, H, W], float32, and a weight, [O, C / groups, kh, kw].

    In `onednn_convolutions` oneDNN computes it and its gradients, on a CPU and with kernels larger than 1: Paddle makes
    a matrix of all patches first and multiplies it, which for a 1x1 kernel is no detour.
    """
    convolution = None
    if _by_onednn.get() and x.place.is_cpu_place() and x.size and max(weight.shape[2:]) > 1:
        geometry = _pair(stride), _pair(padding), _pair(dilation), groups
        convolution = _convolution(tuple(x.shape), tuple(weight.shape), *geometry)
    if convolution is None:
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _Convolve.apply(x, weight, convolution)


class _Convolve(PyLayer):
    """A convolution with its gradients; each is computed only where it is needed."""

    @staticmethod
    def forward(ctx: PyLayer, x: Tensor, weight: Tensor, convolution: Convolution) -> Tensor:
        ctx.convolution = convolution
        ctx.needs = {"of_x": not x.stop_gradient, "of_weight": not weight.stop_gradient}
        ctx.save_for_backward(x, weight)
        return convolution.forward(x, weight)

    @staticmethod
    def backward(ctx: PyLayer, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return ctx.convolution.gradients(*ctx.saved_tensor(), gradient, **ctx.needs)


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@lru_cache(maxsize=MOST_GEOMETRIES)
def _convolution(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Convolution | None:
    """Return the passes of a geometry, or None if oneDNN cannot compute it here."""
    library = onednn.library()
    if library is None:
        return None
    try:
        return Convolution(
            library, x_shape, weight_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
    except OneDNNError:
        return None
